/*
 * Mutated files and what Graft says of each, for mutate.py, which asks ONNX Runtime:
 *
 *     node mutate.ts out && python mutate.py out
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { readOrtAdapter } from '@graft/convert/onnx/read-adapter.ts'
import { heldBytes } from '@graft/sdk/format/byte-source.ts'
import { isGraftError } from '@graft/sdk/format/errors.ts'
import { createBelow, folderToWrite } from '../mutations.ts'
import { adapterOf } from './helpers.ts'

const FILES = 5000
const folder = folderToWrite()
const below = createBelow()

function mutated(source: Uint8Array): Uint8Array {
  const bytes = source.slice()
  const at = below(bytes.length)
  const kind = below(4)
  if (kind === 0) bytes[at] = below(256)
  else if (kind === 1) bytes[at]! ^= 1 << below(8)
  else if (kind === 2) bytes.fill(below(2) * 255, at, at + 4)
  return kind === 3 ? bytes.slice(0, at) : bytes
}

const verdicts: (string | null)[] = []
for (let i = 0; i < FILES; i++) {
  const bytes = mutated(adapterOf(i % 2 === 0 ? 'versions' : 'other-layout'))
  writeFileSync(join(folder, `${i}.onnx_adapter`), bytes)
  try {
    await readOrtAdapter(heldBytes(bytes))
    verdicts.push(null)
  } catch (error) {
    if (!isGraftError(error)) throw error
    verdicts.push(error.message)
  }
}
writeFileSync(join(folder, 'verdicts.json'), JSON.stringify(verdicts))
