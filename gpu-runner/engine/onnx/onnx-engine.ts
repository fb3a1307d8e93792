import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { OperationKind } from '@graft/sdk/format/operations.ts'
import type { Checkpoint } from '../../checkpoint/read-checkpoint.ts'
import { AdapterBank } from '../bank/adapter-bank.ts'
import { compileAdapter } from '../bank/compile-adapter.ts'
import type { CompiledAdapter } from '../bank/compiled-adapter.ts'
import type { BankPrecision } from '../bank/stored-table.ts'
import { ENGINE_DEFAULTS } from '../defaults.ts'
import type { Engine, EngineInfo, LoadedAdapter, RowResult, StepRow } from '../engine.ts'
import type { Execution } from '../graph/execution.ts'
import type { Precision } from '../graph/linear-weights.ts'
import { VARIANTS, widest } from '../graph/variants.ts'
import { assertRow } from '../rules.ts'
import { adapterFeeds } from './adapter-feeds.ts'
import { openBackend } from './backend.ts'
import { baseFeeds, virtualFeeds } from './base-feeds.ts'
import { openGraphs } from './graphs.ts'
import { putHeadRows } from './head-rows.ts'
import { ORT_VERSION } from './ort.ts'
import { planRuns, type Run } from './plan-runs.ts'
import { positionsWanted, rowResults } from './row-results.ts'
import type { Sequence } from './sequence.ts'
import { holdBack, nothingYet } from './whole-prompt.ts'

export interface OnnxEngineOptions {
  checkpoint: Checkpoint
  baseDigest: Digest
  /** @default "fp32" */
  precision?: Precision
  /** Where the graph runs and K and V are held. @default "cpu" */
  execution?: Execution
  /** Most sequences open at once. @default 32 */
  slots?: number
  /** Threads of one operator. @default 2 */
  threads?: number
  /** @default 1 GiB */
  bankBudgetBytes?: number
  /** Of low-rank updates while they wait in the bank. @default "fp32" */
  bankPrecision?: BankPrecision
  /** Folder of this base at this precision, made where it is absent. @default weights in memory */
  prepared?: string
}

/** Raised whenever the arithmetic may change, so that admissions are made anew. */
const GRAPH_REVISION = 3

const OPERATIONS: OperationKind[] = [
  'low_rank',
  'magnitude',
  'scale',
  'bottleneck',
  'prefix',
  'prompt',
  'replace',
]

export interface OnnxEngine extends Engine {
  /** What load does once the adapter is compiled: compiling needs no session and may be done elsewhere. */
  loadCompiled(adapter: CompiledAdapter): Promise<{ bytes: number }>
}

/** The engine on onnxruntime-node. A run blocks its thread: thread/ gives it one of its own. */
export async function openOnnxEngine(options: OnnxEngineOptions): Promise<OnnxEngine> {
  const {
    checkpoint,
    precision,
    execution,
    slots,
    threads,
    bankBudgetBytes,
    bankPrecision,
    prepared,
  } = { ...ENGINE_DEFAULTS, ...options }
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
    execution,
    kvPrecision: 'fp32',
    bankPrecision,
    build: `graft-onnx-${GRAPH_REVISION}+ort-${ORT_VERSION}+${[precision, bankPrecision, execution].join('-')}`,
    bankBudgetBytes,
  }
  const bank = new AdapterBank(config, bankBudgetBytes)
  const backend = await openBackend(execution, config, slots)
  const { kv, least } = backend
  const sequences = new Map<number, Sequence>()
  const freeSlots = Array.from({ length: slots }, (_, slot) => slot)
  const graphs = await openGraphs({ checkpoint, precision, execution, threads, folder: prepared })
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

  const open = async (
    id: number,
    adapters: { digest: Digest; weight: number }[],
  ): Promise<void> => {
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
      held: [],
    }
    const adapter = binding.terms[0]?.adapter
    if (adapter?.prompt) sequence.pendingPrompt = adapter.prompt
    if (adapter?.prefix.length) {
      await kv.write(slot, adapter.prefix)
      sequence.length = adapter.prefix[0]!.tokens
    }
    sequences.set(id, sequence)
  }

  const close = async (id: number): Promise<void> => {
    const sequence = sequences.get(id)
    if (!sequence) return
    sequences.delete(id)
    bank.unbind(sequence.binding)
    await kv.free(sequence.slot, sequence.poisoned)
    freeSlots.push(sequence.slot)
  }

  const run = async (plan: Run): Promise<RowResult[]> => {
    const virtual = plan.rows.map(
      (entry) => (entry?.sequence.pendingPrompt?.tokens ?? 0) + (entry?.held ?? 0),
    )
    const wanted = positionsWanted(plan, virtual)
    const sequencesOfRun = plan.rows.map((entry) => entry?.sequence ?? null)
    const variant = widest(sequencesOfRun.map((sequence) => sequence?.binding.variant ?? 'base'))
    const feeds = {
      ...baseFeeds(plan, wanted.take, least),
      ...kv.feeds(plan),
      ...(VARIANTS[variant].rich ? virtualFeeds(config, plan) : {}),
      ...adapterFeeds(bank, variant, sequencesOfRun, plan.tokens, wanted.takeRows, least),
    }
    const fetches = kv.fetches()
    const graph = await graphs.session(variant)
    const { heads } = VARIANTS[variant]
    const outputs = await (fetches
      ? graph.run(feeds, { ...fetches, ...(heads ? { head_rows: null } : {}) })
      : graph.run(feeds))
    const finite = kv.keep(plan, outputs)
    const logits = outputs['logits']!.data as Float32Array
    if (heads)
      putHeadRows(bank, sequencesOfRun, wanted, logits, outputs['head_rows']!.data as Float32Array)
    const results = rowResults(plan, wanted, logits, config.vocab, finite)
    for (const result of results) {
      const sequence = find(result.sequence)
      sequence.length += plan.tokens
      sequence.pendingPrompt = null
      if (!result.finite) sequence.poisoned = true
    }
    return results
  }

  const step = async (rows: StepRow[]): Promise<{ rows: RowResult[]; ms: number }> => {
    const begin = performance.now()
    const entries = rows.map((row) => ({ row, sequence: find(row.sequence) }))
    for (const { sequence, row } of entries) await check(sequence, row)
    const results = new Map<number, RowResult>()
    const ready = entries.flatMap(({ sequence, row }) => {
      const whole = holdBack(sequence, row)
      if (!whole) results.set(sequence.id, nothingYet(sequence.id))
      return whole ?? []
    })
    for (const plan of planRuns(ready, kv.batches))
      for (const result of await run(plan)) results.set(result.sequence, result)
    return { rows: rows.map((row) => results.get(row.sequence)!), ms: performance.now() - begin }
  }

  const check = async (sequence: Sequence, row: StepRow): Promise<void> => {
    const filled = sequence.length + (sequence.pendingPrompt?.tokens ?? 0) + sequence.held.length
    // Room for this step's own rows, before any view is taken.
    await kv.reserve(sequence.slot, assertRow(info, row, filled))
  }

  const loadCompiled = async (compiled: CompiledAdapter): Promise<{ bytes: number }> => {
    // Building the session a step will need is part of loading: no decode step waits for it.
    await graphs.session(compiled.variant)
    await exclusive(() => bank.load(compiled))
    return { bytes: compiled.bytes }
  }

  return {
    info,
    load: async (adapter: LoadedAdapter) =>
      loadCompiled(await compileAdapter(adapter, checkpoint, bankPrecision)),
    loadCompiled,
    unload: (digest) => exclusive(() => bank.unload(digest)),
    open: (id, adapters) =>
      exclusive(async () => {
        await open(id, adapters)
        return { cachedTokens: 0 }
      }),
    close: (id) => exclusive(() => close(id)),
    step: (rows) => exclusive(() => step(rows)),
    async [Symbol.asyncDispose]() {
      await turn
      await graphs.dispose()
      await backend.dispose()
    },
  }
}
