import { runsAsLowRank } from '@graft/sdk/format/dense/as-low-rank.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { OPERATIONS, type OperationKind } from '@graft/sdk/format/operations.ts'
import { type Checkpoint, withF32 } from '../../checkpoint/read-checkpoint.ts'
import { ENGINE_DEFAULTS } from '../defaults.ts'
import type { Engine, EngineInfo, LoadedAdapter, RowResult, StepRow } from '../engine.ts'
import { linearSites } from '../graph/sites.ts'
import { assertOneLinear } from '../low-rank-factors.ts'
import { assertRow, assertSum, isComposable, mergedOnly, needsWholePrompt } from '../rules.ts'
import { ownBuffers } from '../thread/own-buffers.ts'
import { slot, type WeightedAdapter } from './adapter-maths.ts'
import { advance, embeddingOf, logitsOf, type Past, pastOf } from './forward.ts'

export interface ReferenceEngineOptions {
  checkpoint: Checkpoint
  baseDigest: Digest
  /** @default 32 */
  slots?: number
  /** @default 1 GiB */
  bankBudgetBytes?: number
}

interface Sequence {
  terms: WeightedAdapter[]
  past: Past
  /** Virtual token embeddings [hidden] that still stand before the first token. */
  virtual: Float64Array[]
  /** Tokens that wait for the rest of their prompt. */
  held: number[]
}

const SUPPORTED = (Object.keys(OPERATIONS) as OperationKind[]).filter(
  (op) => OPERATIONS[op].batched,
)

/**
 * The same engine in plain loops: one position at a time, sums in f64, every operation by the formula of its docstring.
 * It shares neither graph nor bank with the fast engine, so that each can be held against the other. Slow on purpose.
 */
export async function openReferenceEngine(options: ReferenceEngineOptions): Promise<Engine> {
  const { slots, bankBudgetBytes } = { ...ENGINE_DEFAULTS, ...options }
  const checkpoint = remembered(options.checkpoint)
  const { config } = checkpoint
  const info: EngineInfo = {
    base: { name: checkpoint.name, digest: options.baseDigest },
    vocab: config.vocab,
    hidden: config.hidden,
    layers: config.layers,
    maxPositions: config.maxPositions,
    slots,
    operations: SUPPORTED,
    precision: 'fp32',
    execution: 'cpu',
    kvPrecision: 'fp32',
    bankPrecision: 'fp32',
    build: 'graft-reference-2',
    bankBudgetBytes,
  }
  const linears = new Set(linearSites(config).map(({ path }) => path))
  const bank = new Map<Digest, LoadedAdapter>()
  const sequences = new Map<number, Sequence>()
  const used = () => [...bank.values()].reduce((sum, adapter) => sum + bytesOf(adapter), 0)

  const find = (id: number): Sequence => {
    const sequence = sequences.get(id)
    if (sequence) return sequence
    throw new GraftError('ERR_INTERNAL', `sequence ${id} is not open`)
  }

  const bind = (adapters: { digest: Digest; weight: number }[]): WeightedAdapter[] => {
    const terms = adapters.map(({ digest, weight }) => {
      const adapter = bank.get(digest)
      if (adapter) return { adapter, weight }
      throw new GraftError(
        'ERR_MODEL_UNKNOWN',
        `the adapter ${digest} is not in the bank; load it first`,
      )
    })
    assertSum(
      terms.map(({ adapter: { digest, operations }, weight }) => ({
        adapter: { digest, composable: isComposable(operations) },
        weight,
      })),
    )
    return terms
  }

  const check = ({ past, virtual, held }: Sequence, row: StepRow): void => {
    assertRow(info, row, past.keys[0]!.length + virtual.length + held.length)
  }

  const runRow = (row: StepRow): RowResult => {
    const sequence = find(row.sequence)
    const { terms, past, virtual, held } = sequence
    const finished = (logits: Float32Array) => ({
      sequence: row.sequence,
      logits,
      finite: logits.every(Number.isFinite),
    })
    if (
      row.logits === 'none' &&
      terms.some(({ adapter }) => needsWholePrompt(adapter.operations))
    ) {
      held.push(...row.tokenIds)
      return finished(new Float32Array(0))
    }
    const ids = [...held.splice(0), ...row.tokenIds]
    const embeddings = ids.map((id) => embeddingOf(checkpoint, terms, id))
    const last = advance(checkpoint, terms, past, [...virtual.splice(0), ...embeddings])
    const count = { none: 0, last: 1, all: row.tokenIds.length }[row.logits]
    const logits = new Float32Array(count * config.vocab)
    for (const [i, h] of last.slice(last.length - count).entries())
      logits.set(logitsOf(checkpoint, terms, h), i * config.vocab)
    return finished(logits)
  }

  return {
    info,
    async load(adapter) {
      const bytes = bytesOf(adapter)
      for (const operation of adapter.operations) {
        if (operation.op === 'dense' && !runsAsLowRank(operation))
          throw new GraftError('ERR_OPERATION_UNSUPPORTED', mergedOnly(operation))
        if (operation.op === 'low_rank' || operation.op === 'magnitude' || operation.op === 'dense')
          assertOneLinear(operation, linears)
      }
      if (!bank.has(adapter.digest) && used() + bytes > bankBudgetBytes)
        throw new GraftError(
          'ERR_BANK_FULL',
          expected(
            'free bank memory',
            `${bytes} bytes for ${adapter.digest}`,
            bankBudgetBytes - used(),
          ),
        )
      bank.set(adapter.digest, ownBuffers(adapter).value)
      return { bytes }
    },
    async unload(digest) {
      for (const { terms } of sequences.values())
        if (terms.some(({ adapter }) => adapter.digest === digest))
          throw new GraftError(
            'ERR_BANK_FULL',
            `${digest} is in use by an open sequence; close it before unloading`,
          )
      bank.delete(digest)
    },
    async open(id, adapters) {
      if (sequences.has(id)) throw new GraftError('ERR_INTERNAL', `sequence ${id} is open already`)
      if (sequences.size === slots)
        throw new GraftError('ERR_OVERLOADED', `all ${slots} sequence slots are in use`)
      const terms = bind(adapters)
      const virtual = terms.flatMap(({ adapter }) => virtualTokens(adapter, config.hidden))
      sequences.set(id, { terms, past: pastOf(checkpoint, terms), virtual, held: [] })
      return { cachedTokens: 0 }
    },
    async close(id) {
      sequences.delete(id)
    },
    async step(rows) {
      const begin = performance.now()
      for (const row of rows) check(find(row.sequence), row)
      return { rows: rows.map(runRow), ms: performance.now() - begin }
    },
    async [Symbol.asyncDispose]() {
      sequences.clear()
      bank.clear()
    },
  }
}

/** E of prompt tuning as rows [hidden]. */
function virtualTokens(adapter: LoadedAdapter, hidden: number): Float64Array[] {
  return adapter.operations.flatMap((operation) => {
    if (operation.op !== 'prompt') return []
    const table = slot(adapter, operation.slots.E)
    return Array.from({ length: operation.virtualTokens }, (_, t) =>
      Float64Array.from(table.subarray(t * hidden, (t + 1) * hidden)),
    )
  })
}

const bytesOf = (adapter: LoadedAdapter): number =>
  [...adapter.tensors.values()].reduce((sum, { data }) => sum + data.byteLength, 0)

/** Weights are asked for at every position: converts each once. */
function remembered(checkpoint: Checkpoint): Checkpoint {
  const known = new Map<string, Float32Array>()
  return withF32(checkpoint, (name, shape) => {
    const value = known.get(name) ?? checkpoint.f32(name, shape)
    known.set(name, value)
    return value
  })
}
