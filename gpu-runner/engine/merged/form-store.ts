import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Engine, LoadedAdapter } from '../engine.ts'

export type OpenMerged = (adapter: LoadedAdapter) => Promise<Engine>

/** A merged form that takes new sequences. */
export interface MergedForm {
  digest: Digest
  /** Counted in the budget. */
  bytes: number
  /** Milliseconds that building and proving it took. */
  buildMs: number
}

export interface FormStoreDeps {
  openMerged: OpenMerged
  formBytes: number
  budgetBytes: number
}

/** Merged forms with their engines, within a budget of bytes; one is built at a time. */
export interface FormStore extends AsyncDisposable {
  /** @throws ERR_BANK_FULL, and what `open` and `prove` throw: then nothing is left of the form */
  add(adapter: LoadedAdapter, prove: (merged: Engine) => Promise<void>): Promise<MergedForm>
  remove(digest: Digest): Promise<void>
  /** Notes a sequence in the form that takes new ones of this adapter; null when there is none. */
  enter(digest: Digest, sequence: number): Engine | null
  leave(digest: Digest, sequence: number): void
  /** The engine of a sequence that entered. */
  engine(digest: Digest): Engine
  /** No new sequences, and gone after the last: its engine failed. */
  retire(digest: Digest): void
  list(): MergedForm[]
  /** How many more forms fit the budget. */
  room(): number
}

interface Entry extends MergedForm {
  engine: Engine
  /** Takes new sequences. */
  routed: boolean
  sequences: Set<number>
  /** Called once no sequence is left. */
  waiting: (() => void)[]
  /** Set while it is being removed. */
  gone: Promise<void> | null
}

export function createFormStore({ openMerged, formBytes, budgetBytes }: FormStoreDeps): FormStore {
  const entries = new Map<Digest, Entry>()
  const building = new Map<Digest, Promise<MergedForm>>()
  let queue: Promise<unknown> = Promise.resolve()
  let used = 0

  /** What a caller sees of an entry. */
  const shown = ({ digest, bytes, buildMs }: Entry): MergedForm => ({ digest, bytes, buildMs })

  async function build(
    adapter: LoadedAdapter,
    prove: (merged: Engine) => Promise<void>,
  ): Promise<MergedForm> {
    const { digest } = adapter
    await entries.get(digest)?.gone
    const free = budgetBytes - used
    if (formBytes > free)
      throw new GraftError(
        'ERR_BANK_FULL',
        `a merged base for ${digest} takes ${formBytes} bytes, and ${free} of the ${budgetBytes} for merged bases are free; unmerge another adapter or start the runner with a larger --merge`,
      )
    used += formBytes
    const begin = performance.now()
    let engine: Engine | undefined
    try {
      engine = await openMerged(adapter)
      await prove(engine)
    } catch (e) {
      await engine?.[Symbol.asyncDispose]()
      used -= formBytes
      throw e
    }
    const entry: Entry = {
      digest,
      bytes: formBytes,
      buildMs: performance.now() - begin,
      engine,
      routed: true,
      sequences: new Set(),
      waiting: [],
      gone: null,
    }
    entries.set(digest, entry)
    return shown(entry)
  }

  async function free(entry: Entry): Promise<void> {
    entry.routed = false
    if (entry.sequences.size > 0) await new Promise<void>((resolve) => entry.waiting.push(resolve))
    entries.delete(entry.digest)
    used -= entry.bytes
    await entry.engine[Symbol.asyncDispose]()
  }

  return {
    add(adapter, prove) {
      const { digest } = adapter
      const known = entries.get(digest)
      if (known?.routed) return Promise.resolve(shown(known))
      const begun = building.get(digest)
      if (begun) return begun
      const result = queue.then(() => build(adapter, prove))
      queue = result.catch(() => {})
      building.set(
        digest,
        result.finally(() => building.delete(digest)),
      )
      return building.get(digest)!
    },
    async remove(digest) {
      const begun = building.get(digest)
      // Not awaited where nothing is being built: the next sequence must already go elsewhere.
      if (begun) await begun.catch(() => {})
      const entry = entries.get(digest)
      if (!entry) return
      entry.gone ??= free(entry)
      await entry.gone
    },
    enter(digest, sequence) {
      const entry = entries.get(digest)
      if (!entry?.routed) return null
      entry.sequences.add(sequence)
      return entry.engine
    },
    leave(digest, sequence) {
      const entry = entries.get(digest)
      entry?.sequences.delete(sequence)
      if (entry?.sequences.size === 0) for (const resolve of entry.waiting.splice(0)) resolve()
    },
    engine(digest) {
      const entry = entries.get(digest)
      if (entry) return entry.engine
      throw new GraftError('ERR_INTERNAL', `${digest} is not merged`)
    },
    retire(digest) {
      const entry = entries.get(digest)
      // Freed once its last sequence has left; a thread that died has nothing to say about that.
      if (entry) entry.gone ??= free(entry).catch(() => {})
    },
    room: () => Math.floor((budgetBytes - used) / formBytes),
    list: () => [...entries.values()].filter(({ routed }) => routed).map(shown),
    async [Symbol.asyncDispose]() {
      await queue
      for (const { engine } of entries.values()) await engine[Symbol.asyncDispose]()
      entries.clear()
    },
  }
}
