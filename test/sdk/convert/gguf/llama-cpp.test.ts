import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { tensorsOf } from '../fixtures.ts'
import { baseOf, bytesOf, exportFiles, ggufOf, importPeft, peftOf } from './helpers.ts'
import { logDistance, openLlamaCpp, softmax } from './llama-cpp.ts'

const FAMILY = 'llama-head'
const FOLDER = join(import.meta.dirname, 'fixtures', FAMILY)
const PROMPT = [3, 14, 15, 9, 26, 5]
const VOCAB = 48

const PEER = join(import.meta.dirname, '../../../bench/peers/node_modules/node-llama-cpp')
const present = existsSync(PEER)
if (!present) console.log('skipped: node-llama-cpp is not installed (npm run bench -- --prepare)')

/** oracle.ts does this for every family of make.py. */
describe.skipIf(!present)('llama.cpp', () => {
  it('answers with a GGUF of Graft what PEFT answers, and refuses one of another base', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'graft-gguf-'))
    await using stack = new AsyncDisposableStack()
    stack.defer(() => rm(folder, { recursive: true, force: true }))
    const base = await baseOf(FAMILY)
    const { bytes } = await exportFiles('gguf', await importPeft(peftOf(FAMILY), base), base)
    const [ours, other] = [join(folder, 'ours.gguf'), join(folder, 'other.gguf')]
    await writeFile(ours, bytes)
    await writeFile(other, ggufOf('qwen2'))
    const logits = tensorsOf(bytesOf(join(FOLDER, 'logits.safetensors')))
    const [adapted, plain] = ['adapted', 'base'].map((name) =>
      softmax(logits.get(name)!.data, VOCAB),
    )
    const llama = stack.use(await openLlamaCpp(join(FOLDER, 'base.gguf')))
    expect(logDistance(adapted!, plain!)).toBeGreaterThan(1)
    expect(logDistance(await llama.probabilities(PROMPT, VOCAB, null), plain!)).toBeLessThan(1e-5)
    expect(logDistance(await llama.probabilities(PROMPT, VOCAB, ours), adapted!)).toBeLessThan(1e-5)
    await expect(llama.probabilities(PROMPT, VOCAB, other)).rejects.toThrow(/LoRA/)
  }, 60_000)
})
