import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { type CreateHash, type Digest, fromHex } from '@graft/sdk/format/digest.ts'

/** Hashes as bytes come. */
export const nodeHash: CreateHash = () => {
  const hash = createHash('sha256')
  return { update: (bytes) => void hash.update(bytes), digest: () => fromHex(hash.digest('hex')) }
}

/** The digest of a file that is never held whole. `onBytes` hears how many were read. */
export async function hashFile(path: string, onBytes: (count: number) => void): Promise<Digest> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) {
    hash.update(chunk as Buffer)
    onBytes((chunk as Buffer).length)
  }
  return fromHex(hash.digest('hex'))
}
