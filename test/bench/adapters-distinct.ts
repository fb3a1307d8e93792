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

/** Layers under --quick: preparing more would take longer than measuring. */
const QUICK_LAYERS = 30

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

async function measure(name: string, full: Shape, { quick, progress }: BenchOptions) {
  const shape = { ...full, layers: quick ? Math.min(full.layers, QUICK_LAYERS) : full.layers }
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
    const digests = []
    for (let i = 0; i < ROWS; i++) {
      const adapter = randomLora(i + 1, checkpoint.config)
      await engine.load(adapter)
      digests.push(adapter.digest)
    }
    lap(`base and ${ROWS} adapters loaded`)
    const adapted = digests.map((digest) => [{ digest, weight: 1 }])
    const arms = {
      base: await openRows(
        engine,
        0,
        digests.map(() => []),
        shape.vocab,
      ),
      adapted: await openRows(engine, ROWS, adapted, shape.vocab),
    }
    lap(`a past of ${PAST} tokens in ${2 * ROWS} rows`)
    const ms: Record<keyof typeof arms, number[]> = { base: [], adapted: [] }
    // The first rounds fill caches; all of them together stay within one bucket of the KV cache.
    const rounds = quick ? 9 : 24
    for (let round = -2; round < rounds; round++)
      for (const arm of ['base', 'adapted'] as const) {
        const { ms: took } = await engine.step(
          arms[arm].map((sequence) => ({ sequence, tokenIds: [sequence], logits: 'last' })),
        )
        if (round >= 0) ms[arm].push(took)
      }
    lap(`${rounds} steps of each arm`)
    const ratios = ms.base.map((base, i) => base / ms.adapted[i]!)
    return {
      ratio: Number((median(ms.base) / median(ms.adapted)).toPrecision(4)),
      ratio_by_round: summary(ratios),
      base_step_ms: summary(ms.base),
      adapted_step_ms: summary(ms.adapted),
      base_tokens_per_s: Number(((1000 * ROWS) / median(ms.base)).toPrecision(4)),
      adapted_tokens_per_s: Number(((1000 * ROWS) / median(ms.adapted)).toPrecision(4)),
      ...shape,
      ...(shape.layers < full.layers && {
        reduced: `${shape.layers} layers of ${full.layers}: --quick`,
      }),
    }
  } finally {
    await engine[Symbol.asyncDispose]()
  }
}

/** Opens a row per entry of `terms` and gives each a past of PAST tokens. @returns the sequences */
async function openRows(
  engine: Engine,
  first: number,
  terms: Parameters<Engine['open']>[1][],
  vocab: number,
): Promise<number[]> {
  const tokenIds = Array.from({ length: PAST }, (_, t) => (t * 131) % vocab)
  for (const [i, own] of terms.entries()) await engine.open(first + i, own)
  const sequences = terms.map((_, i) => first + i)
  await engine.step(sequences.map((sequence) => ({ sequence, tokenIds, logits: 'none' })))
  return sequences
}

/** A rank-16 LoRA on every linear of the shape; the digest is its number. */
function randomLora(seed: number, config: Checkpoint['config']): LoadedAdapter {
  const adapter: LoadedAdapter = {
    digest: fromHex(seed.toString(16).padStart(64, '0')),
    operations: [],
    tensors: new Map(),
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
