import { isGraftError } from '@graft/sdk/format/errors.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { baseOf, exportFiles, ggufOf, importGguf } from './helpers.ts'
import { gguf, pair, textValue } from './write-gguf.ts'

/** What a broken or hostile writer does to a file. */
type Edit = (bytes: Uint8Array, at: number, value: number) => Uint8Array

const EDITS: Record<string, Edit> = {
  'a byte is another': (bytes, at, value) => {
    const out = bytes.slice()
    out[at] = value
    return out
  },
  'a bit is flipped': (bytes, at, value) => {
    const out = bytes.slice()
    out[at]! ^= 1 << (value % 8)
    return out
  },
  'eight bytes are the largest number': (bytes, at) => {
    const out = bytes.slice()
    out.fill(0xff, at, at + 8)
    return out
  },
  'four bytes are zero': (bytes, at) => {
    const out = bytes.slice()
    out.fill(0, at, at + 4)
    return out
  },
  'the end is missing': (bytes, at) => bytes.slice(0, at),
  'bytes are missing': (bytes, at, value) =>
    Uint8Array.from([...bytes.subarray(0, at), ...bytes.subarray(at + 1 + (value % 64))]),
  'bytes are repeated': (bytes, at, value) =>
    Uint8Array.from([...bytes.subarray(0, at + (value % 64)), ...bytes.subarray(at)]),
}

const SEEDS = [
  ggufOf('llama-head'),
  gguf({
    keys: [
      ['general.architecture', textValue('llama')],
      ['general.type', textValue('adapter')],
      ['adapter.type', textValue('lora')],
    ],
    tensors: pair('blk.0.attn_v.weight', 32, 16, 3),
  }),
]

describe('3,000 mutated GGUF files', () => {
  it('are refused by name or imported and given back as they are; none crashes or takes long', async () => {
    const base = await baseOf('llama-head')
    let refused = 0
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...SEEDS),
        fc.constantFrom(...Object.keys(EDITS)),
        // Headers are where structure is: most edits go there.
        fc.oneof(
          { weight: 4, arbitrary: fc.double({ min: 0, max: 0.35, noNaN: true }) },
          { weight: 1, arbitrary: fc.double({ min: 0, max: 0.999, noNaN: true }) },
        ),
        fc.nat(255),
        async (seed, edit, where, value) => {
          const bytes = EDITS[edit]!(seed, Math.floor(where * seed.length), value)
          const begin = performance.now()
          try {
            const imported = await importGguf(bytes, base)
            expect(imported.report.byteExact).toBe(true)
            expect((await exportFiles('gguf', imported)).bytes).toEqual(bytes)
          } catch (error) {
            if (!isGraftError(error)) throw error
            refused++
          }
          expect(performance.now() - begin).toBeLessThan(2000)
        },
      ),
      { numRuns: 3000, seed: 20, endOnFailure: true },
    )
    // Both happen often: the run tests something.
    expect(refused).toBeGreaterThan(1000)
    expect(refused).toBeLessThan(2900)
  }, 60_000)
})
