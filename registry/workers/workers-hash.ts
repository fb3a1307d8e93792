import { type CreateHash, fromHex } from '@graft/sdk/format/digest.ts'
import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex } from '@noble/hashes/utils.js'

/** Hashes as bytes come, and at once: DigestStream would still hold what the caller is about to overwrite. */
export const workersHash: CreateHash = () => {
  const hash = sha256.create()
  return {
    update: (bytes) => void hash.update(bytes),
    digest: () => fromHex(bytesToHex(hash.digest())),
  }
}
