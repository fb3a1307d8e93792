import { readSafetensors, type Tensor, writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { withConfig } from '../fixtures.ts'
import { folderOf, importMade } from './low-rank.ts'

const WEIGHTS = 'adapter_model.safetensors'
const NAMES = [
  ...[
    'adalora-resized',
    'vera',
    'lora-embedding-tied',
    'lora-layers',
    'tokens-apart-tied',
    'velora',
  ],
  ...[
    'lora-experts-gpt-oss',
    'lora-experts-mixtral-v5',
    'lora-parameter',
    'lora-conv',
    'lora-llava',
  ],
]

/** What an import ends in: `accepted`, a code, or what crashed. */
const outcome = (name: string, edit: (files: Map<string, Uint8Array>) => void): Promise<string> =>
  importMade(name, edit).then(
    () => 'accepted',
    (e) => e.code ?? `crash: ${e.stack}`,
  )

const expectAnswer = (code: string): void => {
  expect(code).toMatch(/^(accepted|ERR_[A-Z_]+)$/)
  // A manifest that its own reader refuses would be a defect of the importer.
  expect(code).not.toBe('ERR_MANIFEST_INVALID')
}

describe('any config', () => {
  const value = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.constantFrom<unknown>(0, -1, 1e300, '', 'q_proj', '.*', [null], [-1], [0], ['experts.w1']),
    fc.constantFrom<unknown>({ q_proj: -1 }, { '0': 0 }, ['q_proj.weight'], { lm_head: [1, 1] }),
  )
  it.each(NAMES)('of %s is read or refused with a code', async (name) => {
    const text = new TextDecoder().decode(folderOf(name).get('adapter_config.json'))
    const keys = Object.keys(JSON.parse(text))
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...keys), value, async (key, v) => {
        expectAnswer(await outcome(name, withConfig({ [key]: v })))
      }),
      { numRuns: 100 },
    )
  })
})

describe('any tensors', () => {
  /** One tensor lost, renamed or of another shape. */
  const change = fc.record({
    which: fc.nat(100),
    how: fc.constantFrom('drop', 'rename', 'reshape', 'wrap', 'exchange'),
    shape: fc.array(fc.integer({ min: 0, max: 50 }), { maxLength: 4 }),
  })
  it.each(NAMES)('of %s are read or refused with a code', async (name) => {
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 2 }), async (changes) => {
        const edit = (files: Map<string, Uint8Array>) => {
          const { tensors, metadata } = readSafetensors(files.get(WEIGHTS)!)
          for (const one of changes) apply(tensors, one)
          files.set(WEIGHTS, writeSafetensors(tensors, metadata))
        }
        expectAnswer(await outcome(name, edit))
      }),
      { numRuns: 100 },
    )
  })
})

function apply(
  tensors: Map<string, Tensor>,
  { which, how, shape }: { which: number; how: string; shape: number[] },
): void {
  const keys = [...tensors.keys()]
  const key = keys[which % keys.length]
  if (key === undefined) return
  const tensor = tensors.get(key)!
  const other = keys[(which + 1) % keys.length]!
  if (how === 'exchange') {
    tensors.set(key, tensors.get(other)!)
    tensors.set(other, tensor)
    return
  }
  tensors.delete(key)
  if (how === 'rename') tensors.set(key.replace('layers.0', 'layers.1'), tensor)
  if (how === 'wrap') tensors.set(key.replace(/\.lora_/, '.base_layer.lora_'), tensor)
  if (how === 'reshape') {
    const data = new Uint8Array(shape.reduce((n, dim) => n * dim, 4)).fill(1)
    tensors.set(key, { dtype: 'F32', shape, data })
  }
}
