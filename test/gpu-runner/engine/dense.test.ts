import { join } from 'node:path'
import { describeCheckpoint } from '@graft/runner/checkpoint/describe-checkpoint.ts'
import { type Checkpoint, readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Engine, LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { mergedCheckpoint } from '@graft/runner/engine/merged/merged-checkpoint.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { openReferenceEngine } from '@graft/runner/engine/reference/reference-engine.ts'
import { kindToRun } from '@graft/sdk/format/dense/as-low-rank.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import type { Dense } from '@graft/sdk/format/operations.ts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { logitsOf, logitsTogether } from './measure.ts'
import { importFolder, readJson, readLogits, worstPosition } from './peer-goldens.ts'

/** LoHa, LoKr, OFT, BOFT and FourierFT as PEFT saves them, with its logits: make.py beside them. */
const FIXTURES = join(import.meta.dirname, '../../sdk/convert/peft/dense/fixtures')
const BASE = fromHex('b'.repeat(64))
const LIMIT = 1e-4
/** Their exact factors are small beside the matrices; the others' are not, or there are none. */
const BATCHED = ['loha', 'lokr', 'lokr-both']

interface Facts {
  adapters: string[]
  prompts: number[][]
  sum: { adapter: string; weight: number }[]
}
const {
  adapters: NAMES,
  prompts: PROMPTS,
  sum: SUM,
} = await readJson<Facts>(join(FIXTURES, 'goldens.json'))

describe('adapters of dense operations', () => {
  let checkpoint: Checkpoint
  let goldens: Map<string, Float32Array>
  const adapters = new Map<string, LoadedAdapter>()
  const worst = { merged: 0, onnx: 0, reference: 0, together: 0 }

  beforeAll(async () => {
    const base = await describeCheckpoint(join(FIXTURES, 'base'), 'dense')
    checkpoint = await readCheckpoint(join(FIXTURES, 'base'))
    goldens = await readLogits(join(FIXTURES, 'goldens.safetensors'))
    for (const name of NAMES) adapters.set(name, await importFolder(join(FIXTURES, name), base))
  })
  afterAll(() => console.log(`worst share of max |logit| against PEFT: ${JSON.stringify(worst)}`))

  const shareOf = (own: Float32Array, golden: string) =>
    worstPosition(own, goldens.get(golden)!, checkpoint.config.vocab)
  const compare = (key: keyof typeof worst, own: Float32Array, golden: string) => {
    const share = shareOf(own, golden)
    worst[key] = Math.max(worst[key], share)
    expect(share, `${golden}, ${key}`).toBeLessThanOrEqual(LIMIT)
  }

  /** Logits of the first prompts by an engine over the base with the adapter in its weights. */
  async function mergedLogits(adapter: LoadedAdapter): Promise<Float32Array[]> {
    const merged = mergedCheckpoint(checkpoint, adapter)
    const engine = await openOnnxEngine({ checkpoint: merged, baseDigest: BASE })
    const logits: Float32Array[] = []
    for (const prompt of PROMPTS) logits.push(await logitsOf(engine, [], prompt))
    await engine[Symbol.asyncDispose]()
    return logits
  }

  test.each(NAMES)('%s merged gives the logits of PEFT', async (name) => {
    for (const [i, own] of (await mergedLogits(adapters.get(name)!)).entries()) {
      compare('merged', own, `${name}.${i}`)
      expect(shareOf(own, `base.${i}`)).toBeGreaterThan(0.01)
    }
  })

  test('the kinds that a runtime needs are low_rank where exact factors are small, else dense', () => {
    const kindsOf = (name: string) => new Set(adapters.get(name)!.operations.map(kindToRun))
    for (const name of NAMES) expect(kindsOf(name).has('dense'), name).toBe(!BATCHED.includes(name))
    // Some sites of these have small factors, others have not: the whole adapter is merged.
    expect(kindsOf('loha-patterns')).toEqual(new Set(['dense', 'low_rank']))
    expect(kindsOf('boft-blocks')).toEqual(new Set(['dense', 'replace']))
  })

  describe.each(['onnx', 'reference'] as const)('unmerged, by the %s engine', (key) => {
    let engine: Engine
    beforeAll(async () => {
      const options = { checkpoint, baseDigest: BASE }
      engine = await (key === 'onnx' ? openOnnxEngine(options) : openReferenceEngine(options))
      for (const name of BATCHED) await engine.load(adapters.get(name)!)
    })
    afterAll(() => engine[Symbol.asyncDispose]())
    const alone = (name: string) => [{ digest: adapters.get(name)!.digest, weight: 1 }]

    test.each(BATCHED)('%s gives the logits of PEFT', async (name) => {
      for (const [i, prompt] of PROMPTS.entries())
        compare(key, await logitsOf(engine, alone(name), prompt), `${name}.${i}`)
    })

    test('a weighted sum of LoHa and LoKr is the sum of the weight changes that PEFT merges', async () => {
      const terms = SUM.map(({ adapter, weight }) => ({ ...alone(adapter)[0]!, weight }))
      for (const [i, prompt] of PROMPTS.entries())
        compare(key, await logitsOf(engine, terms, prompt), `sum.${i}`)
    })

    test('all of them and the base in one batch give the same logits', async () => {
      const runs = [...BATCHED, 'base'].flatMap((name) =>
        PROMPTS.map((prompt, i) => ({
          golden: `${name}.${i}`,
          terms: name === 'base' ? [] : alone(name),
          prompt: prompt.slice(0, 1),
          answer: prompt.slice(1),
        })),
      )
      const together = await logitsTogether(engine, runs)
      for (const [r, { golden }] of runs.entries()) compare('together', together[r]!, golden)
    })

    test.each(NAMES.filter((name) => !BATCHED.includes(name)))(
      '%s is refused by its form and site, with the option that serves it',
      async (name) => {
        await expect(engine.load(adapters.get(name)!)).rejects.toMatchObject({
          code: 'ERR_OPERATION_UNSUPPORTED',
          message: expect.stringMatching(
            /^dense \((hadamard|kronecker|rotation|butterfly|spectrum)\) at model\.layers\..*--merge request/,
          ),
        })
      },
    )
  })

  type Of<F extends Dense['form']> = Extract<Dense, { form: F }>
  /** Another reading of the operations of one form. */
  const read =
    <F extends Dense['form']>(form: F, change: (op: Of<F>) => Dense) =>
    (op: Dense): Dense =>
      op.form === form ? change(op as unknown as Of<F>) : op
  const series = (...coefficients: number[]) =>
    read('rotation', (op) => ({ ...op, series: coefficients.map(String) }))
  const without = (key: 'series' | 'maxNorm') =>
    read('rotation', (op) => {
      const { [key]: _, ...rest } = op
      return rest as Dense
    })
  test.each([
    ['loha', 'another scale', read('hadamard', (op) => ({ ...op, scale: '1' }))],
    [
      'loha',
      'its products mixed up',
      read('hadamard', (op) => {
        const { w1a, w2a } = op.slots
        return { ...op, slots: { ...op.slots, w1a: w2a, w2a: w1a } }
      }),
    ],
    ['lokr-whole', 'another scale', read('kronecker', (op) => ({ ...op, scale: '2' }))],
    ['oft', 'the Cayley map, whose transpose the series tends to', without('series')],
    ['oft', 'a series of a term more', series(1, 2, 2, 2, 2, 1)],
    ['oft', 'the last power counted twice, as before PEFT 0.18', series(1, 2, 2, 2, 2)],
    ['old-oft', 'the series of PEFT 0.18', series(1, 2, 2, 1)],
    ['oft-terms-3', 'no third power', series(1, 2, 2)],
    ['oft-terms-2', 'a second power', series(1, 2, 2)],
    ['oft-exact', 'a long series', series(1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1)],
    ['oft-constrained', 'no constraint', without('maxNorm')],
    ['oft-shared', 'no constraint', without('maxNorm')],
    ['boft-butterfly', 'one level', read('butterfly', (op) => ({ ...op, factors: 1 }))],
    ['fourierft', 'another scale', read('spectrum', (op) => ({ ...op, scale: '91' }))],
  ])('%s would not pass with %s', async (name, _, change) => {
    const adapter = adapters.get(name)!
    const operations = adapter.operations.map((op) => (op.op === 'dense' ? change(op) : op))
    const tensors = new Map(adapter.tensors)
    for (const op of operations)
      if (op.op === 'dense' && op.form === 'butterfly') {
        // Levels less are a shorter tensor too.
        const { shape, data } = tensors.get(op.slots.R)!
        tensors.set(op.slots.R, { shape: [op.factors, ...shape.slice(1)], data })
      }
    const [own] = await mergedLogits({ ...adapter, operations, tensors })
    expect(shareOf(own!, `${name}.0`)).toBeGreaterThan(10 * LIMIT)
  })
})
