/*
 * llama.cpp itself as the judge, for every family of make.py:
 *
 *     LLAMA_CPP=dir python make.py --oracle out && node oracle.ts out
 *
 * In llama.cpp, with its own conversion of the base: (1) the base answers as transformers' does; (2) the adapter of its own
 * converter answers as PEFT's does; (3) so does the GGUF that Graft exports from the PEFT folder; (4) so does what Graft
 * exports after importing the converter's GGUF as if it came from elsewhere. Each must be within TOLERANCE, and the adapter
 * must matter. Needs node-llama-cpp: npm run bench -- --prepare.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { tensorsOf } from '../fixtures.ts'
import { baseOf, exportFiles, FAMILIES, ggufOf, importGguf, importPeft, peftOf } from './helpers.ts'
import { logDistance, openLlamaCpp, softmax } from './llama-cpp.ts'

/** Of log probabilities: f32 sums in another order. */
const TOLERANCE = 1e-5
/** llama.cpp looks GELU up in a table of f16, so that its base differs as much already. */
const GELU = /^(?:gemma|phi2|starcoder2|gpt2)/
const GELU_TOLERANCE = 2e-3
const PROMPT = [3, 14, 15, 9, 26, 5]
const VOCAB = 48
const [, , folder] = process.argv
if (folder === undefined) throw new Error('give the folder that make.py --oracle wrote')

async function filesOf(family: string): Promise<Record<string, Uint8Array>> {
  const base = await baseOf(family)
  const peft = await importPeft(peftOf(family), base)
  const fromPeft = (await exportFiles('gguf', peft, base)).bytes
  // The converter's own file for GPT-2 is one that llama.cpp refuses.
  if (family === 'gpt2') return { 'from-peft': fromPeft }
  const gguf = await importGguf(ggufOf(family), base)
  const stranger = { ...gguf, manifest: { ...gguf.manifest, origin: null } }
  const fromGguf = (await exportFiles('gguf', stranger, base)).bytes
  return { converter: ggufOf(family), 'from-peft': fromPeft, 'from-gguf': fromGguf }
}

for (const family of FAMILIES) {
  const at = join(folder, family)
  const want = tensorsOf(new Uint8Array(readFileSync(join(at, 'logits.safetensors'))))
  const rows = (name: string) => softmax(want.get(name)!.data, VOCAB)
  const files = await filesOf(family)
  await using llama = await openLlamaCpp(join(at, 'base.gguf'))
  const base = logDistance(await llama.probabilities(PROMPT, VOCAB, null), rows('base'))
  const effect = logDistance(rows('adapted'), rows('base'))
  const line = [`base ${base.toExponential(1)}`]
  const errors = [base]
  for (const [name, bytes] of Object.entries(files)) {
    const path = join(at, `${name}.gguf`)
    writeFileSync(path, bytes)
    const error = logDistance(await llama.probabilities(PROMPT, VOCAB, path), rows('adapted'))
    line.push(`${name} ${error.toExponential(1)}`)
    // 16-bit and 8-bit files hold other values than PEFT's own.
    if (!/f16|q8/.test(family) || name === 'from-peft') errors.push(error)
  }
  console.log(`${family.padEnd(16)} effect ${effect.toFixed(2)}  ${line.join('  ')}`)
  if (effect < 0.1) throw new Error(`${family}: the adapter changes nothing`)
  const tolerance = GELU.test(family) ? GELU_TOLERANCE : TOLERANCE
  if (!errors.every((error) => error < tolerance))
    throw new Error(`${family}: ${errors} are not below ${tolerance}`)
}
