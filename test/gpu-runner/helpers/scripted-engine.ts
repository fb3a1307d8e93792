import type {
  Engine,
  EngineInfo,
  LoadedAdapter,
  PromptPrefix,
  StepRow,
} from '@graft/runner/engine/engine.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'

/**
 * An engine of table look-ups for tests of what stands above engines: the logits of a position are a pure function
 * of the token there, the position and the adapters of the sequence, so that every answer can be computed by hand.
 */
export interface ScriptedEngine extends Engine {
  /** Rows of every step so far. */
  steps: StepRow[][]
  /** What happened to slots and bank, in order: "open 1", "close 1", "load sha256:...". */
  events: string[]
  /** Set to make the next step fail. */
  failNext: Error | null
  /** Sequences whose rows overflow. */
  poisoned: Set<number>
  /** Milliseconds each step takes. */
  delayMs: number
  bank: Map<Digest, LoadedAdapter>
  /** Keys of prompt blocks that were run; null = it keeps none. */
  blocks: Set<string> | null
}

export const VOCAB = 50

const digest = `sha256:${'b'.repeat(64)}` as Digest

/** The next token after `token` at `position` under the sum of adapter shifts. */
export const nextToken = (token: number, position: number, shift: number): number =>
  3 + ((token * 7 + position * 3 + shift) % (VOCAB - 3))

/** An adapter's shift: the first number of its first tensor. */
export const shiftOf = (adapter: LoadedAdapter): number =>
  [...adapter.tensors.values()][0]!.data[0]!

export function createScriptedEngine(info: Partial<EngineInfo> = {}): ScriptedEngine {
  const full: EngineInfo = {
    base: { name: 'scripted', digest },
    vocab: VOCAB,
    hidden: 1,
    layers: 1,
    maxPositions: 256,
    slots: 4,
    operations: ['low_rank'],
    precision: 'fp32',
    execution: 'cpu',
    kvPrecision: 'fp32',
    bankPrecision: 'fp32',
    build: 'scripted@1',
    bankBudgetBytes: 1_000,
    ...info,
  }
  interface Slot {
    adapters: { digest: Digest; weight: number }[]
    length: number
    prefix: PromptPrefix | undefined
  }
  const open = new Map<number, Slot>()
  let busy = false
  const engine: ScriptedEngine = {
    info: full,
    steps: [],
    events: [],
    failNext: null,
    poisoned: new Set(),
    delayMs: 0,
    bank: new Map(),
    blocks: null,
    async load(adapter) {
      let used = 0
      for (const held of engine.bank.values()) used += size(held)
      if (used + size(adapter) > full.bankBudgetBytes)
        throw new GraftError('ERR_BANK_FULL', 'the bank is full')
      engine.bank.set(adapter.digest, copyOf(adapter))
      engine.events.push(`load ${adapter.digest}`)
      return { bytes: size(adapter) }
    },
    async unload(adapter) {
      for (const { adapters } of open.values())
        if (adapters.some((a) => a.digest === adapter)) throw new Error('in use')
      engine.bank.delete(adapter)
      engine.events.push(`unload ${adapter}`)
    },
    async open(sequence, adapters, prefix) {
      if (busy) throw new Error('open during a step')
      if (open.size >= full.slots) throw new Error('no slot is free')
      for (const a of adapters) if (!engine.bank.has(a.digest)) throw new Error('not in the bank')
      const kept = prefix?.keys.findIndex((key) => !engine.blocks?.has(key)) ?? 0
      const length = (kept < 0 ? prefix!.keys.length : kept) * (prefix?.block ?? 0)
      open.set(sequence, { adapters, length, prefix })
      engine.events.push(`open ${sequence}`)
      return { cachedTokens: length }
    },
    async close(sequence) {
      if (busy) throw new Error('close during a step')
      open.delete(sequence)
      engine.events.push(`close ${sequence}`)
    },
    async step(rows) {
      if (busy) throw new Error('two steps at once')
      busy = true
      try {
        engine.steps.push(structuredClone(rows))
        await new Promise((resolve) => setTimeout(resolve, engine.delayMs))
        const failure = engine.failNext
        engine.failNext = null
        if (failure) throw failure
        // As Engine says: one row's fault is told before anything is computed.
        for (const id of rows.flatMap(({ tokenIds }) => tokenIds))
          if (id >= VOCAB) throw new GraftError('ERR_REQUEST_INVALID', `token id ${id}`)
        const results = rows.map(({ sequence, tokenIds, logits }) => {
          const state = open.get(sequence)
          if (!state) throw new Error(`sequence ${sequence} is not open`)
          let shift = 0
          for (const { digest: d, weight } of state.adapters)
            shift += weight * shiftOf(engine.bank.get(d)!)
          const all = tokenIds.map((token) => row(nextToken(token, state.length++, shift)))
          for (const [i, key] of (state.prefix?.keys ?? []).entries())
            if (state.length >= (i + 1) * state.prefix!.block) engine.blocks?.add(key)
          const asked = logits === 'none' ? [] : logits === 'last' ? all.slice(-1) : all
          const out = new Float32Array(asked.length * VOCAB)
          for (const [i, values] of asked.entries()) out.set(values, i * VOCAB)
          return { sequence, logits: out, finite: !engine.poisoned.has(sequence) }
        })
        return { rows: results, ms: 1 }
      } finally {
        busy = false
      }
    },
    async [Symbol.asyncDispose]() {},
  }
  return engine
}

const size = (adapter: LoadedAdapter): number =>
  [...adapter.tensors.values()].reduce((n, { data }) => n + data.byteLength, 0)

/** Shared memory is its owner's again once load resolves. */
const copyOf = ({ tensors, ...rest }: LoadedAdapter): LoadedAdapter => ({
  ...rest,
  tensors: new Map(
    [...tensors].map(([name, { shape, data }]) => [name, { shape, data: data.slice() }]),
  ),
})

const row = (best: number): Float32Array => {
  const values = new Float32Array(VOCAB)
  values[best] = 10
  return values
}
