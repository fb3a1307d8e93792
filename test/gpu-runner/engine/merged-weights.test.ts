import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describeCheckpoint } from '@graft/runner/checkpoint/describe-checkpoint.ts'
import { type Checkpoint, readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { mergedCheckpoint } from '@graft/runner/engine/merged/merged-checkpoint.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { openReferenceEngine } from '@graft/runner/engine/reference/reference-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import type { LowRank } from '@graft/sdk/format/operations.ts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { logitsOf, worstShare } from './measure.ts'
import { importFolder, readJson, readLogits, worstPosition } from './peer-goldens.ts'
import {
  builder,
  dora,
  eachLinear,
  embeddings,
  everyOperation,
  head,
  lowRank,
} from './random-adapters.ts'
import { TINY, writeTinyCheckpoint } from './tiny-checkpoint.ts'

const FIXTURES = join(import.meta.dirname, 'fixtures')
const BASE = fromHex('b'.repeat(64))
const LIMIT = 1e-4
const { hidden, vocab } = TINY

/** Logits of the merged base alone: nothing of the adapter is in a bank. */
async function mergedLogits(checkpoint: Checkpoint, adapter: LoadedAdapter, prompt: number[]) {
  const merged = mergedCheckpoint(checkpoint, adapter)
  const engine = await openOnnxEngine({ checkpoint: merged, baseDigest: BASE })
  const logits = await logitsOf(engine, [], prompt)
  await engine[Symbol.asyncDispose]()
  return logits
}

test.each(['lora', 'rslora-patterns', 'dora', 'lora-head', 'ia3'])(
  '%s merged gives the logits that PEFT computes unmerged',
  async (name) => {
    const dir = join(FIXTURES, 'peers/base')
    const adapter = await importFolder(
      join(FIXTURES, 'peers', name),
      await describeCheckpoint(dir, 'peers'),
    )
    const checkpoint = await readCheckpoint(dir)
    const goldens = await readLogits(join(FIXTURES, 'peers/goldens.safetensors'))
    const { prompts } = await readJson<{ prompts: number[][] }>(
      join(FIXTURES, 'peers/goldens.json'),
    )
    for (const [i, prompt] of prompts.entries()) {
      const own = await mergedLogits(checkpoint, adapter, prompt)
      const { vocab: width } = checkpoint.config
      expect(worstPosition(own, goldens.get(`${name}.${i}`)!, width)).toBeLessThanOrEqual(LIMIT)
      expect(worstPosition(own, goldens.get(`base.${i}`)!, width)).toBeGreaterThan(0.01)
    }
  },
)

describe.each(['biased', 'tied'])('on the %s base', (base) => {
  const folder = join(FIXTURES, 'operations', base)
  const names = readdirSync(folder).filter(
    (name) => !/^(base|bn-.*|goldens.*|p-tuning|prefix.*|prompt.*)$/.test(name),
  )
  test.each(names)('%s merged gives the logits that PEFT computes unmerged', async (name) => {
    const dir = join(folder, 'base')
    const adapter = await importFolder(join(folder, name), await describeCheckpoint(dir, base))
    const checkpoint = await readCheckpoint(dir)
    const goldens = await readLogits(join(folder, 'goldens.safetensors'))
    const facts = await readJson<{ prompts: number[][]; steps: number[][] }>(
      join(folder, 'goldens.json'),
    )
    for (const [i, prompt] of facts.prompts.entries()) {
      const own = await mergedLogits(checkpoint, adapter, [...prompt, ...facts.steps[i]!])
      const { vocab: width } = checkpoint.config
      expect(worstPosition(own, goldens.get(`${name}.${i}`)!, width)).toBeLessThanOrEqual(LIMIT)
      expect(worstPosition(own, goldens.get(`base.${i}`)!, width)).toBeGreaterThan(0.01)
    }
  })
})

describe('on a random base', () => {
  const PROMPT = [5, 3, 100, 60, 7, 11, 19]
  let tiny: Awaited<ReturnType<typeof writeTinyCheckpoint>>
  let checkpoint: Checkpoint
  beforeAll(async () => {
    tiny = await writeTinyCheckpoint()
    checkpoint = await readCheckpoint(tiny.dir)
  })
  afterAll(() => tiny.remove())

  const all = everyOperation()
  const mergeable = Object.keys(all).filter(
    (name) => !/bottleneck|prefix|prompt|with a bias/.test(name),
  )

  test.each(mergeable)('%s merged gives what the plain loops give unmerged', async (name) => {
    const adapter = all[name]!
    const reference = await openReferenceEngine({ checkpoint, baseDigest: BASE })
    await reference.load(adapter)
    const want = await logitsOf(reference, [{ digest: adapter.digest, weight: 1 }], PROMPT)
    const share = worstShare(await mergedLogits(checkpoint, adapter, PROMPT), want)
    expect(share).toBeLessThanOrEqual(LIMIT)
    // An adapter that did nothing would pass as well.
    expect(worstShare(await logitsOf(reference, [], PROMPT), want)).toBeGreaterThan(0.01)
  })

  test('dense and replaced norms are merged although no batch can run them', async () => {
    const { adapter, tensor, add } = builder(21)
    eachLinear((site, inner, out, at) => {
      if (at % 4 !== 1) return
      const slots = { dW: tensor(`${site}.dW`, [out, inner], 0.1) }
      add({ op: 'dense', form: 'matrix', site, in: inner, out, slots })
    })
    const norm = {
      site: 'model.layers.1.input_layernorm',
      param: 'weight' as const,
      shape: [hidden],
      slots: { value: tensor('norm', [hidden], 0.3, 1) },
    }
    add({ op: 'replace', ...norm })
    // By hand: the same sums into a copy of the checkpoint that only the reference reads.
    const want = await openReferenceEngine({
      baseDigest: BASE,
      checkpoint: {
        ...checkpoint,
        f32(name, shape) {
          if (name === `${norm.site}.weight`) return adapter.tensors.get('norm')!.data
          const w = checkpoint.f32(name, shape)
          const dW = adapter.tensors.get(name.replace(/weight$/, 'dW'))?.data
          return dW ? w.map((value, i) => value + dW[i]!) : w
        },
      },
    })
    const own = await mergedLogits(checkpoint, adapter, PROMPT)
    expect(worstShare(own, await logitsOf(want, [], PROMPT))).toBeLessThanOrEqual(LIMIT)
  })

  test('a weight that no operation names is the base’s own, byte for byte', () => {
    const merged = mergedCheckpoint(checkpoint, head(7))
    const shape: [string, number[]] = ['model.embed_tokens.weight', [vocab, hidden]]
    expect(merged.f32(...shape)).toEqual(checkpoint.f32(...shape))
    const rows = mergedCheckpoint(checkpoint, embeddings(8, [3])).f32(...shape)
    const own = checkpoint.f32(...shape)
    const changed = [...rows].flatMap((value, i) =>
      value === own[i] ? [] : [Math.floor(i / hidden)],
    )
    expect(new Set(changed)).toEqual(new Set([3]))
  })

  test.each([
    ['bottleneck relu', /^bottleneck at model\.layers\.0 .* activation .*; call it unmerged$/],
    ['prefix', /^prefix at model\.layers\.0\.self_attn .*virtual tokens/],
    ['prompt', /^prompt at model\.embed_tokens .*virtual tokens/],
  ])('%s is no change of weights and is refused by name', (name, message) => {
    expect(() => mergedCheckpoint(checkpoint, all[name]!)).toThrow(
      expect.objectContaining({
        code: 'ERR_OPERATION_UNSUPPORTED',
        message: expect.stringMatching(message),
      }),
    )
  })

  test('low-rank updates of experts, convolutions and the embedding are refused by name', () => {
    const linear = 'model.layers.0.self_attn.q_proj'
    for (const [site, sizes, part] of [
      [linear, { experts: 2 }, 'it is no single matrix'],
      [linear, { kernel: [3] }, 'it is no single matrix'],
      ['model.embed_tokens', { in: vocab }, 'it adapts the embedding'],
    ] as const) {
      const { adapter, add } = builder(34)
      const slots = { A: 'A', B: 'B' }
      add({
        op: 'low_rank',
        site,
        in: hidden,
        out: hidden,
        rank: 2,
        scale: '1',
        ...sizes,
        slots,
      } as LowRank)
      expect(() => mergedCheckpoint(checkpoint, adapter)).toThrow(
        expect.objectContaining({
          code: 'ERR_OPERATION_UNSUPPORTED',
          message: expect.stringContaining(part),
        }),
      )
    }
  })

  test('sites, sizes and tensors that do not fit the base are refused before any work', () => {
    const spoiled = (change: (adapter: LoadedAdapter) => void) => {
      const adapter = dora(3)
      change(adapter)
      return () => mergedCheckpoint(checkpoint, adapter)
    }
    const first = (adapter: LoadedAdapter) => adapter.operations[0]!
    expect(spoiled((a) => (first(a).site = 'model.layers.9.mlp.up_proj'))).toThrow(
      expect.objectContaining({
        code: 'ERR_OPERATION_UNSUPPORTED',
        message: expect.stringContaining('no tensor model.layers.9.mlp.up_proj.weight'),
      }),
    )
    expect(spoiled((a) => Object.assign(first(a), { in: 7 }))).toThrow(
      expect.objectContaining({ code: 'ERR_TENSOR_SHAPE' }),
    )
    const m = 'model.layers.0.self_attn.q_proj.m'
    expect(spoiled((a) => a.tensors.delete(m))).toThrow(
      expect.objectContaining({ code: 'ERR_TENSOR_MISSING', message: expect.stringContaining(m) }),
    )
  })

  test('weights that overflow when summed are refused by site', () => {
    const adapter = lowRank(5)
    for (const { data } of adapter.tensors.values()) data.fill(3e37)
    const site = 'model.layers.0.self_attn.q_proj'
    expect(() =>
      mergedCheckpoint(checkpoint, adapter).f32(`${site}.weight`, [hidden, hidden]),
    ).toThrow(
      expect.objectContaining({
        code: 'ERR_WEIGHTS_NON_FINITE',
        message: expect.stringContaining(site),
      }),
    )
  })
})
