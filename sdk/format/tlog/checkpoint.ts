import { decodeBase64, encodeBase64 } from '../base64url.ts'
import { expected, GraftError } from '../errors.ts'
import { HASH_BYTES } from './hash.ts'
import type { TreeHead } from './verify-proofs.ts'

/** C2SP tlog-checkpoint: a tree head of the log named `origin`. */
export interface Checkpoint extends TreeHead {
  origin: string
}

/** A note's text. Extension lines are not written: nobody can audit them. */
export const formatCheckpoint = ({ origin, size, root }: Checkpoint): string =>
  `${origin}\n${size}\n${encodeBase64(root)}\n`

/** Extension lines are refused too: no log of Graft writes any. @throws ERR_SIGNATURE_INVALID */
export function parseCheckpoint(text: string): Checkpoint {
  const refuse = (where: string, what: string, got: unknown) =>
    new GraftError('ERR_SIGNATURE_INVALID', expected(`checkpoint: ${where}`, what, got))
  const lines = text.split('\n')
  const [origin = '', size = '', root = '', end] = lines
  if (lines.length !== 4 || end !== '' || origin === '')
    throw refuse('text', 'three lines: origin, size and root', text)
  const count = Number(size)
  if (!/^(0|[1-9]\d*)$/.test(size) || !Number.isSafeInteger(count))
    throw refuse('size', 'a number of leaves without leading zeros', size)
  let hash: Uint8Array<ArrayBuffer>
  try {
    hash = decodeBase64(root, 'root')
  } catch (cause) {
    throw new GraftError(
      'ERR_SIGNATURE_INVALID',
      expected('checkpoint: root', '32 bytes in base64', root),
      { cause },
    )
  }
  if (hash.length !== HASH_BYTES) throw refuse('root', '32 bytes in base64', root)
  return { origin, size: count, root: hash }
}
