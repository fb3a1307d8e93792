import type { Digest } from '@graft/sdk/format/digest.ts'
import { expected, GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import { OPERATIONS } from '@graft/sdk/format/operations.ts'
import type { AdapterPull, AdapterResidency } from '@graft/sdk/protocol/runner-api.ts'
import { type Admission, type AdmissionResult, checkFit } from '../admission/admission.ts'
import type { Score } from '../admission/goldens.ts'
import { scorePrompt } from '../admission/score.ts'
import type { Engine, LoadedAdapter } from '../engine/engine.ts'
import { scoreAlone } from '../merging/score-alone.ts'
import type { Scheduler } from '../scheduler/scheduler.ts'
import type { AdapterFacts } from './adapter-facts.ts'
import type { Bank } from './bank.ts'
import { type FetchDeps, fetchAdapter, fetchBlob } from './fetch-adapter.ts'
import type { HostAdapter, HostCache } from './host-cache.ts'
import { listDisk } from './list-disk.ts'
import type { MergedForms } from './merged-forms.ts'
import { rememberer } from './remember.ts'
import { createScratch } from './scratch.ts'
import { createShareWork } from './share-work.ts'

export interface Lease {
  /** For the engine, in the order asked. */
  adapters: { digest: Digest; weight: number }[]
  /** Positions that virtual tokens take. */
  virtualTokens: number
  /** Takes the pins away. */
  release(): void
}

export interface AdapterMaterial {
  facts: AdapterFacts
  tensors: LoadedAdapter
  /** The goldens' blob; null when nobody signed any. */
  logits: Uint8Array | null
}

export interface Adapters extends AsyncDisposable {
  /**
   * Brings adapters through every tier into the bank, admitted and pinned.
   * @throws what is wrong with an adapter, or why it cannot be had
   */
  acquire(pulls: AdapterPull[], tenant: string, signal: AbortSignal): Promise<Lease>
  /** Starts what acquire would do and forgets the outcome: a later call meets it half way. */
  prefetch(pulls: AdapterPull[], tenant: string): void
  /** What a merged form is made of and proven by; the adapter need not be in the bank. */
  material(pull: AdapterPull, signal: AbortSignal): Promise<AdapterMaterial>
  residency(): AdapterResidency[]
}

export interface AdaptersDeps extends FetchDeps {
  /**
   * Host memory for goldens while they prove an adapter. Apart from the adapters' own: who waits here holds some of
   * that, and must not wait for others who do the same.
   */
  evidence: Pick<HostCache, 'claim'>
  engine: Engine
  scheduler: Scheduler
  bank: Bank
  /** For adapters that no batch can run; null = they are refused. */
  forms: MergedForms | null
  admission: Admission
  now: () => number
  onLoad?: (load: { digest: Digest; from: 'disk' | 'registry'; ms: number }) => void
  onAdmission?: (outcome: 'recalled' | 'proven' | 'unproven' | 'refused') => void
}

/** What another caller's right to the bytes may mend. */
const RIGHTS = ['ERR_UNAUTHENTICATED', 'ERR_TOKEN_EXPIRED', 'ERR_FORBIDDEN', 'ERR_VERSION_UNKNOWN']

/** How long a refusal stands: goldens cost engine time, and a caller who insists must not buy it again each second. */
const REFUSAL_MS = 60_000

/** Adapters whose facts and admission are remembered; what is forgotten is read and proven again. */
const REMEMBERED = 10_000

export function createAdapters(deps: AdaptersDeps): Adapters {
  const { engine, scheduler, bank, forms, host, admission, disk, loader, now } = deps
  const { onLoad, onAdmission } = deps
  const scratch = createScratch()
  const shareFetch = createShareWork<Digest, void>()
  const shareAdmission = createShareWork<Digest, AdmissionResult>()
  const known = rememberer<Digest, AdapterFacts>(REMEMBERED)
  const admitted = rememberer<Digest, AdmissionResult>(REMEMBERED)
  const refused = rememberer<Digest, { error: GraftError; until: number }>(REMEMBERED)
  const onDisk = new Map<Digest, AdapterFacts['file']>()
  const writing = new Set<Promise<void>>()
  void listDisk(disk, onDisk)

  async function fetchOnce(pull: AdapterPull, signal: AbortSignal): Promise<void> {
    const started = performance.now()
    const { digest, capability } = pull
    const task = {
      digest,
      capability,
      known: known.get(digest),
      wantGoldens: !admitted.get(digest),
      check: (facts: AdapterFacts) => checkFit(facts, engine.info),
    }
    const { facts, from, kept } = await fetchAdapter(deps, task, signal)
    known.set(digest, facts)
    onDisk.set(digest, facts.file)
    writing.add(kept)
    kept.finally(() => writing.delete(kept))
    onLoad?.({ digest, from, ms: performance.now() - started })
  }

  /**
   * Brings an adapter into host memory and holds it there. Shares a load with whoever asks for the same bytes; a right
   * that was refused is not held against another's.
   */
  async function hold(
    pull: AdapterPull,
    signal: AbortSignal,
  ): Promise<{ adapter: HostAdapter; release: () => void }> {
    for (;;) {
      const held = host.use(pull.digest)
      if (held) return held
      let mine = false
      try {
        await shareFetch(pull.digest, signal, (shared) => {
          mine = true
          return fetchOnce(pull, shared)
        })
      } catch (e) {
        if (mine || !isGraftError(e) || !RIGHTS.includes(e.code)) throw e
        await fetchOnce(pull, signal)
      }
    }
  }

  async function goldenLogits(
    { goldens }: AdapterFacts,
    { capability }: AdapterPull,
    signal: AbortSignal,
  ): Promise<Uint8Array | null> {
    if (!goldens) return null
    const { sha256: digest, size } = goldens.logits
    return fetchBlob(deps, { digest, size }, capability, signal)
  }

  /** Goldens beside everybody else's rows. */
  function scoreInBatch(pull: AdapterPull, tenant: string, signal: AbortSignal): Score {
    return (tokenIds, adapted, positions) => {
      const job = {
        requestId: `admission:${pull.label}`,
        tenant,
        adapter: adapted ? pull.digest : null,
        tokenIds,
        positions,
        vocab: engine.info.vocab,
      }
      return scorePrompt(scheduler, job, signal)
    }
  }

  async function prove(
    facts: AdapterFacts,
    pull: AdapterPull,
    score: Score,
    signal: AbortSignal,
  ): Promise<AdmissionResult> {
    const claim = await deps.evidence.claim(facts.goldens?.logits.size ?? 0, signal)
    try {
      return await admission.prove(facts, await goldenLogits(facts, pull, signal), score)
    } finally {
      claim.cancel()
    }
  }

  /** Remembers what came out of a proof; a refusal stands for a while. */
  async function remember(
    { digest }: AdapterFacts,
    recalled: AdmissionResult | null,
    proof: () => Promise<AdmissionResult>,
  ): Promise<AdmissionResult> {
    try {
      const result = recalled ?? (await proof())
      admitted.set(digest, result)
      onAdmission?.(recalled ? 'recalled' : result.proven ? 'proven' : 'unproven')
      return result
    } catch (e) {
      if (isGraftError(e) && e.code === 'ERR_ADMISSION_FAILED') {
        onAdmission?.('refused')
        // Dropped, so that goldens signed meanwhile are seen when it is asked for again.
        host.remove(digest)
        known.delete(digest)
        refused.set(digest, { error: e, until: now() + REFUSAL_MS })
      }
      throw e
    }
  }

  /** @param facts of an adapter that the caller has pinned in the bank */
  async function admit(
    facts: AdapterFacts,
    pull: AdapterPull,
    tenant: string,
    signal: AbortSignal,
  ): Promise<void> {
    const { digest } = facts
    if (admitted.get(digest)) return
    await shareAdmission(digest, signal, async (shared) => {
      // A pin of its own: who asked may leave while the goldens still run.
      const own = bank.use(digest)
      try {
        const recalled = admitted.get(digest) ?? (await admission.recall(digest))
        return await remember(facts, recalled, () =>
          prove(facts, pull, scoreInBatch(pull, tenant, shared), shared),
        )
      } finally {
        own?.release()
      }
    })
  }

  function assertComposable(facts: AdapterFacts, pull: AdapterPull, count: number): void {
    if (count === 1 && Number(pull.weight) === 1) return
    const single = facts.operations.find(({ op }) => !OPERATIONS[op].composable)
    if (single)
      throw new GraftError(
        'ERR_NOT_COMPOSABLE',
        `${pull.label} has ${single.op} at ${single.site}, which can be neither weighted nor summed; call it by itself with weight 1`,
      )
  }

  /** What stands in the bank, or has a form of its own, and was admitted needs no other tier. */
  function useResident({ digest }: AdapterPull) {
    if (!admitted.get(digest)) return null
    const facts = known.get(digest)
    const release = facts && forms?.use(digest)
    return release ? { facts, release } : bank.use(digest)
  }

  /** An adapter that no batch can run: its form is built, and proven before anybody uses it, also where it was before. */
  function pinForm(
    { facts, record, file }: HostAdapter,
    pull: AdapterPull,
    tenant: string,
    signal: AbortSignal,
  ): Promise<() => void> {
    const { digest, f32Bytes } = facts
    const adapter = () =>
      loader.run('convert', record, digest, file, new SharedArrayBuffer(f32Bytes))
    return forms!.pin(
      digest,
      {
        adapter,
        async prove(merged, shared) {
          const inBatch = scoreInBatch(pull, tenant, shared)
          let sequence = 0
          const score: Score = (tokenIds, adapted, positions) =>
            adapted
              ? scoreAlone(merged, ++sequence, tokenIds, positions)
              : inBatch(tokenIds, false, positions)
          await remember(facts, null, () => prove(facts, pull, score, shared))
        },
      },
      signal,
    )
  }

  async function load(
    pull: AdapterPull,
    count: number,
    tenant: string,
    signal: AbortSignal,
  ): Promise<{ facts: AdapterFacts; release: () => void }> {
    const { adapter, release } = await hold(pull, signal)
    const { facts, record, file } = adapter
    try {
      assertComposable(facts, pull, count)
      if (forms && facts.operations.some(({ op }) => !OPERATIONS[op].batched))
        return { facts, release: await pinForm(adapter, pull, tenant, signal) }
      const tensors = async () => {
        const memory = scratch.take(facts.f32Bytes)
        const giveBack = () => scratch.give(memory)
        const adapter = await loader.run('convert', record, facts.digest, file, memory)
        return { adapter, giveBack }
      }
      return { facts, release: await bank.pin(facts, tensors, signal) }
    } catch (e) {
      // Larger than all of the bank: it must not push everybody out again with the next call.
      if (isGraftError(e) && e.code === 'ERR_BANK_FULL' && e.retryAfter === undefined)
        refused.set(facts.digest, { error: e, until: now() + REFUSAL_MS })
      throw e
    } finally {
      release()
    }
  }

  async function acquireOne(
    pull: AdapterPull,
    count: number,
    tenant: string,
    signal: AbortSignal,
  ): Promise<{ facts: AdapterFacts; release: () => void }> {
    signal.throwIfAborted()
    const no = refused.get(pull.digest)
    if (no && no.until > now()) throw no.error
    const held = useResident(pull) ?? (await load(pull, count, tenant, signal))
    try {
      assertComposable(held.facts, pull, count)
      await admit(held.facts, pull, tenant, signal)
      return held
    } catch (e) {
      held.release()
      // What was refused must not stand where a later bug could use it. While others still prove it, it is pinned.
      if (!admitted.get(pull.digest)) await bank.evict(pull.digest)
      throw e
    }
  }

  async function acquire(
    pulls: AdapterPull[],
    tenant: string,
    signal: AbortSignal,
  ): Promise<Lease> {
    if (new Set(pulls.map((pull) => pull.digest)).size < pulls.length)
      throw new GraftError(
        'ERR_REQUEST_INVALID',
        expected(
          'adapters',
          'different ones: add their weights',
          pulls.map((p) => p.label),
        ),
      )
    const results = await Promise.allSettled(
      pulls.map((pull) => acquireOne(pull, pulls.length, tenant, signal)),
    )
    const held = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
    const release = (): void => {
      for (const one of held) one.release()
    }
    const failed = results.find((result) => result.status === 'rejected')
    if (failed) {
      release()
      throw failed.reason
    }
    return {
      adapters: pulls.map(({ digest, weight }) => ({ digest, weight: Number(weight) })),
      virtualTokens: Math.max(0, ...held.map(({ facts }) => facts.virtualTokens)),
      release,
    }
  }

  return {
    acquire,
    prefetch(pulls, tenant) {
      for (const pull of pulls)
        acquire([pull], tenant, new AbortController().signal).then(
          (lease) => lease.release(),
          () => {},
        )
    },
    async material(pull, signal) {
      const { adapter, release } = await hold(pull, signal)
      const { facts, record, file } = adapter
      try {
        const memory = new SharedArrayBuffer(facts.f32Bytes)
        const tensors = await loader.run('convert', record, facts.digest, file, memory)
        return { facts, tensors, logits: await goldenLogits(facts, pull, signal) }
      } finally {
        release()
      }
    },
    residency() {
      const found = new Map<Digest, AdapterResidency>()
      for (const [digest, file] of onDisk)
        if (disk.has(file.digest)) found.set(digest, { digest, tier: 'disk', bytes: file.size })
        // Still being written, or evicted: the next load says which.
        else if (writing.size === 0) onDisk.delete(digest)
      for (const { digest, bytes } of host.entries())
        found.set(digest, { digest, tier: 'host', bytes })
      // Being in the bank is not enough to be called: the goldens may still be running.
      for (const { digest, bytes } of bank.entries())
        if (admitted.get(digest)) found.set(digest, { digest, tier: 'bank', bytes })
      for (const digest of forms?.entries() ?? [])
        if (admitted.get(digest))
          found.set(digest, { digest, tier: 'bank', bytes: known.get(digest)?.f32Bytes ?? 0 })
      return [...found.values()]
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(writing)
      await loader[Symbol.asyncDispose]()
    },
  }
}
