/*
 * Mutated files and what Graft's reader says of each, for mutate.py, which asks Python's gguf package:
 *
 *     node mutate.ts out && python mutate.py out
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { checkPadding, readGgufHeader } from '@graft/convert/gguf/open-gguf.ts'
import { heldBytes } from '@graft/sdk/format/byte-source.ts'
import { isGraftError } from '@graft/sdk/format/errors.ts'
import { createBelow, folderToWrite } from '../mutations.ts'
import { ggufOf } from './helpers.ts'

const FILES = 5000
const folder = folderToWrite()
const below = createBelow()

/** Headers are where structure is. */
function mutated(source: Uint8Array): Uint8Array {
  const bytes = source.slice()
  const at = below(below(5) > 0 ? 480 : bytes.length)
  const kind = below(5)
  if (kind === 0) bytes[at] = below(256)
  else if (kind === 1) bytes[at]! ^= 1 << below(8)
  else if (kind === 2) bytes.fill(below(2) * 255, at, at + 4)
  else if (kind === 3) return bytes.slice(0, below(bytes.length))
  else bytes.copyWithin(at, at + 1 + below(16))
  return bytes
}

const verdicts: (string | null)[] = []
for (let i = 0; i < FILES; i++) {
  const bytes = mutated(ggufOf('llama-head'))
  writeFileSync(join(folder, `${i}.gguf`), bytes)
  try {
    const source = heldBytes(bytes)
    await checkPadding(source, (await readGgufHeader(source)).header)
    verdicts.push(null)
  } catch (error) {
    if (!isGraftError(error)) throw error
    verdicts.push(error.message)
  }
}
writeFileSync(join(folder, 'verdicts.json'), JSON.stringify(verdicts))
