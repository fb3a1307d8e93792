import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { OperationKind } from '@graft/sdk/format/operations.ts'
import type { Checkpoint } from '../../checkpoint/read-checkpoint.ts'
import { AdapterBank } from '../bank/adapter-bank.ts'
import { compileAdapter } from '../bank/compile-adapter.ts'
import { type CompiledAdapter, traitsOf } from '../bank/compiled-adapter.ts'
import type { KvPrecision } from '../bank/kv-format.ts'
import type { BankPrecision } from '../bank/stored-table.ts'
import { ENGINE_DEFAULTS } from '../defaults.ts'
import type {
  Engine,
  EngineInfo,
  LoadedAdapter,
  PromptPrefix,
  RowResult,
  StepRow,
} from '../engine.ts'
import type { Execution } from '../graph/execution.ts'
import { heldCheckpoint } from '../graph/held-checkpoint.ts'
import type { Precision } from '../graph/linear-weights.ts'
import { assertRuns } from '../graph/precisions.ts'
import { reachable, VARIANTS, type Variant, widest } from '../graph/variants.ts'
import { assertRow } from '../rules.ts'
import { ownBuffers } from '../thread/own-buffers.ts'
import { AdapterFeeds, tablesRead } from './adapter-feeds.ts'
import { openBackend } from './backend.ts'
import { baseFeeds, virtualFeeds } from './base-feeds.ts'
import { openGraphs } from './graphs.ts'
import { putHeadRows } from './head-rows.ts'
import { isOneAdapter } from './one-adapter-feeds.ts'
import { ORT_VERSION } from './ort.ts'
import type { Run } from './plan-runs.ts'
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
  /** How keys and values of open sequences are held. @default "fp32" */
  kvPrecision?: KvPrecision
  /** Most bytes of keys and values of open sequences. @default 1 GiB */
  kvBudgetBytes?: number
  /** Most bytes of prompt blocks that are kept for later sequences; 0 = none are. @default 256 MiB */
  prefixBudgetBytes?: number
  /** Of low-rank updates while they wait in the bank. @default "fp32" */
  bankPrecision?: BankPrecision
  /** Folder of this base at this precision, made where it is absent. @default weights in memory */
  prepared?: string
}

/** Raised whenever the arithmetic may change, so that admissions are made anew. */
const GRAPH_REVISION = 7

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
  const settings = { ...ENGINE_DEFAULTS, ...options }
  const { checkpoint, precision, execution, slots, threads } = settings
  const { kvPrecision, bankPrecision, bankBudgetBytes } = settings
  assertRuns(precision, execution)
  const { config } = checkpoint
  const held = heldCheckpoint(checkpoint, precision)
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
    kvPrecision,
    bankPrecision,
    build: `graft-onnx-${GRAPH_REVISION}+ort-${ORT_VERSION}+${[precision, bankPrecision, `kv-${kvPrecision}`, execution].join('-')}`,
    bankBudgetBytes,
  }
  const bank = new AdapterBank(config, bankBudgetBytes)
  const backend = await openBackend(execution, config, {
    slots,
    precision: kvPrecision,
    budgetBytes: settings.kvBudgetBytes,
    prefixBudgetBytes: settings.prefixBudgetBytes,
  })
  const { kv, tables, least } = backend
  const sequences = new Map<number, Sequence>()
  const freeSlots = Array.from({ length: slots }, (_, slot) => slot)
  const adapterFeeds = new AdapterFeeds()
  const loadedVariants = new Set<Variant>()
  const graphs = await openGraphs({
    checkpoint,
    precision,
    execution,
    kvPrecision,
    threads,
    folder: options.prepared,
  })
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
    prefix: PromptPrefix | undefined,
  ): Promise<number> => {
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
    try {
      const cached = await fill(sequence, prefix)
      sequences.set(id, sequence)
      return cached
    } catch (e) {
      await release(sequence)
      throw e
    }
  }

  /** Puts what stands before the first step into the slot. @returns prompt tokens among it */
  const fill = async (sequence: Sequence, prefix: PromptPrefix | undefined): Promise<number> => {
    const adapter = sequence.binding.terms[0]?.adapter
    const virtual = adapter?.prompt?.tokens ?? adapter?.prefix[0]?.tokens ?? 0
    if (adapter?.prompt) sequence.pendingPrompt = adapter.prompt
    if (adapter?.prefix.length) {
      await kv.write(sequence.slot, adapter.prefix)
      sequence.length = virtual
    }
    // Where a position's values depend on tokens behind it, none of its blocks can stand for another prompt.
    const shared =
      prefix && !sequence.binding.terms.some(({ adapter: { wholePrompt } }) => wholePrompt)
    const cached = shared ? await kv.adopt(sequence.slot, prefix, virtual) : 0
    if (cached > 0) {
      sequence.length = virtual + cached
      sequence.pendingPrompt = null
    }
    return cached
  }

  const release = async (sequence: Sequence): Promise<void> => {
    bank.unbind(sequence.binding)
    await kv.free(sequence.slot, sequence.poisoned)
    freeSlots.push(sequence.slot)
  }

  const close = async (id: number): Promise<void> => {
    const sequence = sequences.get(id)
    if (!sequence) return
    sequences.delete(id)
    await release(sequence)
  }

  const variantOf = (rows: (Sequence | null)[]): Variant => {
    const variant = widest(rows.map((row) => row?.binding.variant ?? 'base'))
    const one = variant === 'low_rank' && graphs.sparesNodes && isOneAdapter(rows, graphs.traits)
    return one ? 'low_rank_one' : variant
  }

  const run = async (plan: Run): Promise<RowResult[]> => {
    const virtual = plan.rows.map(
      (entry) => (entry?.sequence.pendingPrompt?.tokens ?? 0) + (entry?.held ?? 0),
    )
    const wanted = positionsWanted(plan, virtual)
    const sequencesOfRun = plan.rows.map((entry) => entry?.sequence ?? null)
    const variant = variantOf(sequencesOfRun)
    // Before anything is awaited: a load may ask for another form of the graph.
    const session = graphs.session(variant)
    await tables.follow(tablesRead(bank, variant))
    const feeds = {
      ...baseFeeds(plan, wanted.take, least),
      ...kv.feeds(plan),
      ...(VARIANTS[variant].virtual ? virtualFeeds(config, plan) : {}),
      ...adapterFeeds.of(
        { bank, variant, rows: sequencesOfRun, tokens: plan.tokens, least, tables },
        wanted.takeRows,
      ),
    }
    const fetches = kv.fetches()
    const graph = await session
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
    for (const plan of kv.plan(ready))
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
    graphs.ask(traitsOf(compiled))
    loadedVariants.add(compiled.variant)
    for (const variant of reachable(loadedVariants)) await graphs.session(variant)
    if (graphs.sparesNodes && loadedVariants.has('low_rank')) await graphs.session('low_rank_one')
    await exclusive(async () => {
      bank.load(compiled)
      await graphs.releaseOutgrown()
    })
    return { bytes: compiled.bytes }
  }

  return {
    info,
    load: async (adapter: LoadedAdapter) =>
      loadCompiled(ownBuffers(await compileAdapter(adapter, held, bankPrecision)).value),
    loadCompiled,
    unload: (digest) => exclusive(() => bank.unload(digest)),
    open: (id, adapters, prefix) =>
      exclusive(async () => ({ cachedTokens: await open(id, adapters, prefix) })),
    close: (id) => exclusive(() => close(id)),
    step: (rows) => exclusive(() => step(rows)),
    async [Symbol.asyncDispose]() {
      await turn
      await graphs.dispose()
      await backend.dispose()
    },
  }
}
