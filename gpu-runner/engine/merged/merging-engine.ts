import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Engine, LoadedAdapter, StepRow } from '../engine.ts'
import { assertRow } from '../rules.ts'
import { createFormStore, type FormStore, type MergedForm, type OpenMerged } from './form-store.ts'
import { stepSides } from './step-sides.ts'

/** What one step ran, for whoever judges whether merging pays. */
export interface StepSample {
  ms: number
  /** Every row fed one token. */
  decode: boolean
  /** Positions filled in all rows together. */
  positions: number
  /** By sequence: the adapter it is bound to alone with weight 1, 'sum' for other combinations, null for the base alone. */
  rows: { adapter: Digest | 'sum' | null; merged: boolean }[]
}

export interface MergingEngineDeps {
  base: Engine
  /** Opens an engine over merged weights, in a thread of its own. */
  openMerged: OpenMerged
  /** Memory that one merged form takes. */
  formBytes: number
  /** Memory for all merged forms. */
  budgetBytes: number
  onStep?: (sample: StepSample) => void
}

/**
 * The base engine, and beside it whole engines over the base with one adapter folded into its weights. A sequence bound
 * to exactly one merged adapter with weight 1 is opened there and stays there; everything else runs on the base engine,
 * which merging never touches: what it computed before a merge it computes bit by bit after it.
 */
export interface MergingEngine extends Engine {
  /**
   * Builds the adapter's merged form beside the running engines; new sequences use it once `prove` has passed.
   * @param prove runs on the merged engine before anybody else does; what it throws refuses the form
   * @throws ERR_BANK_FULL when the budget has no room, ERR_OPERATION_UNSUPPORTED for what is no change of weights
   */
  merge(adapter: LoadedAdapter, prove: (merged: Engine) => Promise<void>): Promise<MergedForm>
  /** Takes no new sequence, waits for those in flight, frees the form. A digest that is not merged is none. */
  unmerge(digest: Digest): Promise<void>
  /** Forms that take new sequences. */
  merged(): MergedForm[]
  /** How many more forms fit the budget. */
  mergeRoom(): number
}

interface Owned {
  /** Digest of the merged form that runs it; null = the base engine. */
  form: Digest | null
  adapter: Digest | 'sum' | null
  /** Positions filled, virtual ones included. */
  filled: number
}

export function createMergingEngine(deps: MergingEngineDeps): MergingEngine {
  const { base, onStep } = deps
  const forms = createFormStore(deps)
  const owned = new Map<number, Owned>()
  /** Virtual tokens that a sequence of this adapter begins with. */
  const virtual = new Map<Digest, number>()

  const find = (sequence: number): Owned => {
    const owner = owned.get(sequence)
    if (owner) return owner
    throw new GraftError('ERR_INTERNAL', `sequence ${sequence} is not open`)
  }

  /** A refusal must come before anything is computed, and one engine cannot speak for the other. */
  function assertRows(rows: StepRow[]): void {
    for (const row of rows) assertRow(base.info, row, find(row.sequence).filled)
  }

  return {
    // What no batch runs, a merged form does.
    info: { ...base.info, operations: [...base.info.operations, 'dense'] },
    async load(adapter) {
      const loaded = await base.load(adapter)
      virtual.set(adapter.digest, virtualTokens(adapter))
      return loaded
    },
    async unload(digest) {
      if ([...owned.values()].some(({ form }) => form === digest))
        throw new GraftError(
          'ERR_BANK_FULL',
          `${digest} is in use by an open sequence; close it before unloading`,
        )
      await base.unload(digest)
      virtual.delete(digest)
    },
    async open(sequence, adapters, prefix) {
      const alone = adapters.length === 1 && adapters[0]!.weight === 1 ? adapters[0]!.digest : null
      const adapter = alone ?? (adapters.length > 0 ? 'sum' : null)
      const form = alone && forms.enter(alone, sequence)
      const opened = form
        ? await form.open(sequence, [], prefix).catch((e) => {
            forms.leave(alone, sequence)
            throw e
          })
        : await base.open(sequence, adapters, prefix)
      const before = form ? 0 : Math.max(0, ...adapters.map((a) => virtual.get(a.digest) ?? 0))
      owned.set(sequence, {
        form: form ? alone : null,
        adapter,
        filled: before + opened.cachedTokens,
      })
      return { ...opened, merged: form !== null }
    },
    async close(sequence) {
      const owner = owned.get(sequence)
      owned.delete(sequence)
      if (!owner || owner.form === null) return base.close(sequence)
      try {
        await forms.engine(owner.form).close(sequence)
      } finally {
        forms.leave(owner.form, sequence)
      }
    },
    async step(rows) {
      const sides = sidesOf(rows, (row) => find(row.sequence).form)
      if (sides.size > 1) assertRows(rows)
      const begin = performance.now()
      const result = await run(base, forms, sides)
      for (const { sequence, tokenIds } of rows) find(sequence).filled += tokenIds.length
      onStep?.({
        ms: performance.now() - begin,
        decode: rows.every(({ tokenIds }) => tokenIds.length === 1),
        positions: rows.reduce((sum, { sequence }) => sum + find(sequence).filled, 0),
        rows: rows.map(({ sequence }) => {
          const { adapter, form } = find(sequence)
          return { adapter, merged: form !== null }
        }),
      })
      return { rows: rows.map(({ sequence }) => result.rows.get(sequence)!), ms: result.ms }
    },
    merge: forms.add,
    unmerge: forms.remove,
    merged: forms.list,
    mergeRoom: forms.room,
    async [Symbol.asyncDispose]() {
      await forms[Symbol.asyncDispose]()
      await base[Symbol.asyncDispose]()
    },
  }
}

function sidesOf(
  rows: StepRow[],
  formOf: (row: StepRow) => Digest | null,
): Map<Digest | null, StepRow[]> {
  const sides = new Map<Digest | null, StepRow[]>()
  for (const row of rows) {
    const form = formOf(row)
    const side = sides.get(form)
    if (side) side.push(row)
    else sides.set(form, [row])
  }
  return sides
}

async function run(base: Engine, forms: FormStore, sides: Map<Digest | null, StepRow[]>) {
  return stepSides(
    [...sides].map(([form, rows]) => ({
      rows,
      engine: form === null ? base : forms.engine(form),
      onFailure: () => {
        if (form !== null) forms.retire(form)
      },
    })),
  )
}

const virtualTokens = ({ operations }: LoadedAdapter): number => {
  const most = (op: 'prefix' | 'prompt') =>
    Math.max(0, ...operations.map((o) => (o.op === op ? o.virtualTokens : 0)))
  return most('prefix') + most('prompt')
}
