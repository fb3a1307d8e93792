import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { OperationKind } from '@graft/sdk/format/operations.ts'
import type { Checkpoint } from '../../checkpoint/read-checkpoint.ts'
import { AdapterBank } from '../bank/adapter-bank.ts'
import { compileAdapter } from '../bank/compile-adapter.ts'
import { KvCache } from '../bank/kv-cache.ts'
import { ENGINE_DEFAULTS } from '../defaults.ts'
import type { Engine, EngineInfo, LoadedAdapter, RowResult, StepRow } from '../engine.ts'
import { buildDecoder, EXTERNAL_NAME } from '../graph/decoder.ts'
import type { Precision } from '../graph/linear-weights.ts'
import { VARIANTS, type Variant, widest } from '../graph/variants.ts'
import { assertRow } from '../rules.ts'
import { adapterFeeds } from './adapter-feeds.ts'
import { baseFeeds, virtualFeeds } from './base-feeds.ts'
import { ORT_VERSION, type Ort, ort } from './ort.ts'
import { planRuns, type Run, type RunRow } from './plan-runs.ts'
import type { Sequence } from './sequence.ts'

export interface OnnxEngineOptions {
  checkpoint: Checkpoint
  baseDigest: Digest
  /** @default "fp32" */
  precision?: Precision
  /** Most sequences open at once. @default 32 */
  slots?: number
  /** Threads of one operator. @default 2 */
  threads?: number
  /** @default 1 GiB */
  bankBudgetBytes?: number
}

/** Raised whenever the arithmetic may change, so that admissions are made anew. */
const GRAPH_REVISION = 1

const OPERATIONS: OperationKind[] = [
  'low_rank',
  'magnitude',
  'scale',
  'bottleneck',
  'prefix',
  'prompt',
  'replace',
]

/** The engine on onnxruntime-node. A run blocks its thread: thread/ gives it one of its own. */
export async function openOnnxEngine(options: OnnxEngineOptions): Promise<Engine> {
  const { checkpoint, precision, slots, threads, bankBudgetBytes } = {
    ...ENGINE_DEFAULTS,
    ...options,
  }
  const { config } = checkpoint
  const info: EngineInfo = {
    base: { name: checkpoint.name, digest: options.baseDigest },
    vocab: config.vocab,
    hidden: config.hidden,
    layers: config.layers,
    maxPositions: config.maxPositions,
    slots,
    operations: OPERATIONS,
    precision,
    execution: 'cpu',
    kvPrecision: 'fp32',
    bankPrecision: 'fp32',
    build: `graft-onnx-${GRAPH_REVISION}+ort-${ORT_VERSION}+${precision}`,
    bankBudgetBytes,
  }
  const bank = new AdapterBank(config, bankBudgetBytes)
  const cache = new KvCache(config, slots)
  const sequences = new Map<number, Sequence>()
  const freeSlots = Array.from({ length: slots }, (_, slot) => slot)
  const sessions = new Map<Variant, Promise<Ort.InferenceSession>>()

  const session = (variant: Variant): Promise<Ort.InferenceSession> => {
    const known = sessions.get(variant)
    if (known) return known
    const { model, external } = buildDecoder(checkpoint, precision, variant)
    const created = ort.InferenceSession.create(model, {
      externalData: [{ path: EXTERNAL_NAME, data: external }],
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      logSeverityLevel: 3,
    })
    sessions.set(variant, created)
    return created
  }

  // Views of the bank and the cache are read when the native call starts, after the event loop turned: whatever moves
  // rows waits for its turn.
  let turn: Promise<unknown> = Promise.resolve()
  const exclusive = <T>(task: () => T | Promise<T>): Promise<T> => {
    const next = turn.then(task)
    turn = next.catch(() => {})
    return next
  }

  const find = (id: number): Sequence => {
    const sequence = sequences.get(id)
    if (sequence) return sequence
    throw new GraftError('ERR_INTERNAL', `sequence ${id} is not open`)
  }

  const open = (id: number, adapters: { digest: Digest; weight: number }[]): void => {
    if (sequences.has(id)) throw new GraftError('ERR_INTERNAL', `sequence ${id} is open already`)
    if (freeSlots.length === 0)
      throw new GraftError('ERR_OVERLOADED', `all ${slots} sequence slots are in use`)
    const binding = bank.bind(adapters)
    // Lowest slot first: open sequences stay neighbours.
    freeSlots.sort((a, b) => a - b)
    const slot = freeSlots.shift()!
    const sequence: Sequence = {
      id,
      slot,
      length: 0,
      binding,
      pendingPrompt: null,
      poisoned: false,
    }
    const adapter = binding.terms[0]?.adapter
    if (adapter?.prompt) sequence.pendingPrompt = adapter.prompt
    for (const { layer, tokens, k, v } of adapter?.prefix ?? []) {
      cache.reserve(tokens)
      cache.append('k', layer, slot, 0, tokens, k)
      cache.append('v', layer, slot, 0, tokens, v)
      sequence.length = tokens
    }
    sequences.set(id, sequence)
  }

  const close = (id: number): void => {
    const sequence = sequences.get(id)
    if (!sequence) return
    sequences.delete(id)
    bank.unbind(sequence.binding)
    if (sequence.poisoned) cache.clear(sequence.slot)
    freeSlots.push(sequence.slot)
  }

  const run = async (plan: Run): Promise<RowResult[]> => {
    const virtual = plan.rows.map((entry) => entry?.sequence.pendingPrompt?.tokens ?? 0)
    const { take, takeRows } = positionsWanted(plan, virtual)
    const sequencesOfRun = plan.rows.map((entry) => entry?.sequence ?? null)
    const variant = widest(sequencesOfRun.map((sequence) => sequence?.binding.variant ?? 'base'))
    const feeds = {
      ...baseFeeds(config, cache, plan, take),
      ...(VARIANTS[variant].rich ? virtualFeeds(config, plan) : {}),
      ...adapterFeeds(bank, variant, sequencesOfRun, takeRows),
    }
    const outputs = await (await session(variant)).run(feeds)
    const rowFloats = config.kvHeads * plan.tokens * config.headDim
    for (let layer = 0; layer < config.layers; layer++)
      for (const kind of ['k', 'v'] as const) {
        const rows = outputs[`new.${layer}.${kind}`]!.data as Float32Array
        for (const [b, entry] of plan.rows.entries())
          if (entry)
            cache.append(
              kind,
              layer,
              entry.sequence.slot,
              entry.sequence.length,
              plan.tokens,
              rows,
              b * rowFloats,
            )
      }
    const logits = outputs['logits']!.data as Float32Array
    // Whatever overflows earlier reaches the last layer's values as NaN: they tell also where no logits were asked for.
    const values = outputs[`new.${config.layers - 1}.v`]!.data as Float32Array
    let at = 0
    return plan.rows.flatMap((entry, b) => {
      if (!entry) return []
      const { sequence } = entry
      sequence.length += plan.tokens
      sequence.pendingPrompt = null
      const count = takeRows.filter((row) => row === b).length
      const own = logits.slice(at * config.vocab, (at + count) * config.vocab)
      at += count
      const finite =
        isFinite32(own) && isFinite32(values.subarray(b * rowFloats, (b + 1) * rowFloats))
      if (!finite) sequence.poisoned = true
      return [{ sequence: sequence.id, logits: own, finite }]
    })
  }

  const step = async (rows: StepRow[]): Promise<{ rows: RowResult[]; ms: number }> => {
    const begin = performance.now()
    const entries: RunRow[] = rows.map((row) => ({ row, sequence: find(row.sequence) }))
    for (const { sequence, row } of entries) check(sequence, row)
    const results = new Map<number, RowResult>()
    for (const plan of planRuns(entries))
      for (const result of await run(plan)) results.set(result.sequence, result)
    return { rows: rows.map((row) => results.get(row.sequence)!), ms: performance.now() - begin }
  }

  const check = (sequence: Sequence, row: StepRow): void => {
    const filled = sequence.length + (sequence.pendingPrompt?.tokens ?? 0)
    // Room for this step's own rows, before any view is taken.
    cache.reserve(assertRow(info, row, filled))
  }

  return {
    info,
    load: async (adapter: LoadedAdapter) => {
      const compiled = await compileAdapter(adapter, checkpoint)
      // Building the session a step will need is part of loading: no decode step waits for it.
      await session(compiled.variant)
      await exclusive(() => bank.load(compiled))
      return { bytes: compiled.bytes }
    },
    unload: (digest) => exclusive(() => bank.unload(digest)),
    open: (id, adapters) =>
      exclusive(() => {
        open(id, adapters)
        return { cachedTokens: 0 }
      }),
    close: (id) => exclusive(() => close(id)),
    step: (rows) => exclusive(() => step(rows)),
    async [Symbol.asyncDispose]() {
      await turn
      for (const created of sessions.values()) await (await created).release()
      sessions.clear()
    },
  }
}

/** Indices into B * T whose logits are wanted, and the row of each. */
function positionsWanted(plan: Run, virtual: number[]): { take: number[]; takeRows: number[] } {
  const take: number[] = []
  const takeRows: number[] = []
  for (const [b, entry] of plan.rows.entries()) {
    if (!entry || entry.row.logits === 'none') continue
    const first = entry.row.logits === 'last' ? plan.tokens - 1 : virtual[b]!
    for (let t = first; t < plan.tokens; t++) {
      take.push(b * plan.tokens + t)
      takeRows.push(b)
    }
  }
  return { take, takeRows }
}

/** A plain loop: over a whole vocabulary a callback per value costs as much as a layer. */
function isFinite32(values: Float32Array): boolean {
  // v - v is 0 for every finite v, NaN for the others, and NaN survives the sum.
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += values[i]! - values[i]!
  return sum === 0
}
