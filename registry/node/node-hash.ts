import { createHash } from 'node:crypto'
import { type CreateHash, fromHex } from '@graft/sdk/format/digest.ts'

/** Hashes as bytes come. */
export const nodeHash: CreateHash = () => {
  const hash = createHash('sha256')
  return { update: (bytes) => void hash.update(bytes), digest: () => fromHex(hash.digest('hex')) }
}
