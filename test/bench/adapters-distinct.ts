import { cpus } from 'node:os'
import type { Checkpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Engine, LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { linearSites } from '@graft/runner/engine/graph/sites.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { randomBase, seededUniform } from './random-base.ts'
import type { Bench, BenchOptions } from './run.ts'
import { median, summary } from './statistics.ts'

const ROWS = 16
const RANK = 16
const PAST = 100
/** Timed steps of each arm. */
const LEAST = 5
const MOST = 25

type Shape = Parameters<typeof randomBase>[1]
const SHAPES: Record<'2048' | '135m', Shape> = {
  '2048': {
    hidden: 2048,
    layers: 4,
    heads: 32,
    kvHeads: 8,
    headDim: 64,
    intermediate: 8192,
    vocab: 4096,
  },
  '135m': {
    hidden: 576,
    layers: 30,
    heads: 9,
    kvHeads: 3,
    headDim: 64,
    intermediate: 1536,
    vocab: 49_152,
  },
}

/**
 * Decode throughput of 16 rows with 16 different LoRA adapters over that of 16 rows of the base alone: one engine, one
 * set of slots, the same past. Arms alternate step by step, so that a busy machine slows both.
 */
export const adaptersDistinct: Bench = {
  about: '16 distinct rank-16 adapters in one decode batch against the base alone',
  needs: 'nothing to prepare: weights are seeded and made in memory, no peer is needed',
  async run(options) {
    const begin = performance.now()
    const ratios: Record<string, number> = {}
    const shapes: Record<string, unknown> = {}
    for (const [name, shape] of Object.entries(SHAPES)) {
      const { ratio, ...details } = await measure(name, shape, options)
      ratios[`ratio_${name}`] = ratio
      shapes[name] = details
    }
    return {
      bench: 'adapters-distinct',
      ...ratios,
      rows: ROWS,
      rank: RANK,
      sites: 'all seven linears of every layer',
      past: PAST,
      base_precision: 'int4',
      bank_precision: 'fp32',
      shapes,
      machine: { cpu: cpus()[0]?.model ?? 'unknown', cores: cpus().length },
      node: process.version,
      seconds: Number(((performance.now() - begin) / 1000).toFixed(1)),
    }
  },
}

async function measure(name: string, shape: Shape, { quick, progress }: BenchOptions) {
  let last = performance.now()
  const lap = (what: string) => {
    progress(`${name}: ${what} (${((performance.now() - last) / 1000).toFixed(1)} s)`)
    last = performance.now()
  }
  const checkpoint = randomBase(`random-${name}`, shape)
  const engine = await openOnnxEngine({
    checkpoint,
    baseDigest: fromHex('0'.repeat(64)),
    precision: 'int4',
    slots: 2 * ROWS,
  })
  try {
    const past = pastOnly(checkpoint.config)
    await engine.load(past)
    const adapters = Array.from({ length: ROWS }, (_, i) =>
      randomLora(i + 1, checkpoint.config, past),
    )
    for (const adapter of adapters) await engine.load(adapter)
    lap(`base and ${ROWS} adapters loaded`)
    const arms = {
      base: await openRows(
        engine,
        0,
        adapters.map(() => past),
      ),
      adapted: await openRows(engine, ROWS, adapters),
    }
    const ms: Record<keyof typeof arms, number[]> = { base: [], adapted: [] }
    // The first round fills caches; all of them together stay within one bucket of the KV cache.
    const until = performance.now() + (quick ? 5_000 : 60_000)
    const more = (round: number) => round < LEAST || (round < MOST && performance.now() < until)
    for (let round = -1; more(round); round++)
      for (const arm of ['base', 'adapted'] as const) {
        const { ms: took } = await engine.step(
          arms[arm].map((sequence) => ({ sequence, tokenIds: [sequence], logits: 'last' })),
        )
        if (round >= 0) ms[arm].push(took)
      }
    lap(`${ms.base.length} steps of each arm`)
    const ratios = ms.base.map((base, i) => base / ms.adapted[i]!)
    return {
      ratio: Number((median(ms.base) / median(ms.adapted)).toPrecision(4)),
      ratio_by_round: summary(ratios),
      base_step_ms: summary(ms.base),
      adapted_step_ms: summary(ms.adapted),
      base_tokens_per_s: Number(((1000 * ROWS) / median(ms.base)).toPrecision(4)),
      adapted_tokens_per_s: Number(((1000 * ROWS) / median(ms.adapted)).toPrecision(4)),
      ...shape,
    }
  } finally {
    await engine[Symbol.asyncDispose]()
  }
}

/** Opens one row per adapter. @returns the sequences */
async function openRows(
  engine: Engine,
  first: number,
  adapters: LoadedAdapter[],
): Promise<number[]> {
  for (const [i, { digest }] of adapters.entries())
    await engine.open(first + i, [{ digest, weight: 1 }])
  return adapters.map((_, i) => first + i)
}

/** PAST positions of keys and values and nothing else: a row of the base with a past, without running a prompt. */
function pastOnly({ layers, kvHeads, headDim }: Checkpoint['config']): LoadedAdapter {
  const shape = [kvHeads, PAST, headDim]
  const data = seededUniform(99, kvHeads * PAST * headDim, 1)
  return {
    digest: fromHex('f'.repeat(64)),
    operations: Array.from({ length: layers }, (_, layer) => ({
      op: 'prefix',
      site: `model.layers.${layer}.self_attn`,
      kvHeads,
      headDim,
      virtualTokens: PAST,
      slots: { k: 'past', v: 'past' },
    })),
    tensors: new Map([['past', { shape, data }]]),
  }
}

/** A rank-16 LoRA on every linear of the shape, with the same past; the digest is its number. */
function randomLora(
  seed: number,
  config: Checkpoint['config'],
  past: LoadedAdapter,
): LoadedAdapter {
  const adapter: LoadedAdapter = {
    digest: fromHex(seed.toString(16).padStart(64, '0')),
    operations: [...past.operations],
    tensors: new Map(past.tensors),
  }
  for (const { path, in: inner, out } of linearSites(config)) {
    const slots = { A: `${path}.A`, B: `${path}.B` }
    adapter.operations.push({
      op: 'low_rank',
      site: path,
      in: inner,
      out,
      rank: RANK,
      scale: '1',
      slots,
    })
    const tensor = (name: string, shape: [number, number], spread: number) =>
      adapter.tensors.set(name, {
        shape,
        data: seededUniform(seed++, shape[0] * shape[1], spread),
      })
    tensor(slots.A, [RANK, inner], 1 / Math.sqrt(inner))
    tensor(slots.B, [out, RANK], 0.2)
  }
  return adapter
}
