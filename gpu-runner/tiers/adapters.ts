import { baseDigest } from '@graft/sdk/format/base-identity.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { expected, GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import { OPERATIONS } from '@graft/sdk/format/operations.ts'
import type { AdapterPull, AdapterResidency } from '@graft/sdk/protocol/runner-api.ts'
import { type Admission, type AdmissionResult, checkFit } from '../admission/admission.ts'
import { scorePrompt } from '../admission/score.ts'
import type { Engine } from '../engine/engine.ts'
import type { Scheduler } from '../scheduler/scheduler.ts'
import { type VerifiedAdapter, verifyRecord } from './adapter-bytes.ts'
import type { Bank } from './bank.ts'
import { type FetchDeps, fetchAdapter, fetchBlob } from './fetch-adapter.ts'
import type { HostCache } from './host-cache.ts'
import { createShareWork } from './share-work.ts'

export interface Lease {
  /** For the engine, in the order asked. */
  adapters: { digest: Digest; weight: number }[]
  /** Positions that virtual tokens take. */
  virtualTokens: number
  /** Takes the pins away. */
  release(): void
}

export interface Adapters {
  /**
   * Brings adapters through every tier into the bank, admitted and pinned.
   * @throws what is wrong with an adapter, or why it cannot be had
   */
  acquire(pulls: AdapterPull[], tenant: string, signal: AbortSignal): Promise<Lease>
  /** Starts what acquire would do and forgets the outcome: a later call meets it half way. */
  prefetch(pulls: AdapterPull[], tenant: string): void
  residency(): AdapterResidency[]
}

export interface AdaptersDeps extends FetchDeps {
  engine: Engine
  scheduler: Scheduler
  bank: Bank
  host: HostCache
  admission: Admission
  now: () => number
  onLoad?: (load: { digest: Digest; from: 'host' | 'disk' | 'registry'; ms: number }) => void
  onAdmission?: (outcome: 'recalled' | 'proven' | 'unproven' | 'refused') => void
}

/** What another caller's right to the bytes may mend. */
const RIGHTS = ['ERR_UNAUTHENTICATED', 'ERR_TOKEN_EXPIRED', 'ERR_FORBIDDEN', 'ERR_VERSION_UNKNOWN']

/** How long a refusal stands: goldens cost engine time, and a caller who insists must not buy it again each second. */
const REFUSAL_MS = 60_000

export function createAdapters(deps: AdaptersDeps): Adapters {
  const { engine, scheduler, bank, host, admission, disk, now, onLoad, onAdmission } = deps
  const shareFetch = createShareWork<string, VerifiedAdapter>()
  const shareAdmission = createShareWork<string, AdmissionResult>()
  const admitted = new Map<Digest, AdmissionResult>()
  const onDisk = new Map<Digest, number>()
  const refused = new Map<Digest, { error: GraftError; until: number }>()
  void listDisk()

  /** Records of earlier runs, so that the edge sees a restarted runner's disk. */
  async function listDisk(): Promise<void> {
    for (const name of await disk.notes('records').catch(() => [])) {
      const bytes = await disk.note('records', name).catch(() => null)
      const record = bytes && (await verifyRecord(bytes, name as Digest).catch(() => null))
      if (record) onDisk.set(record.digest, record.file.size)
    }
  }

  async function fetchOnce(pull: AdapterPull, signal: AbortSignal): Promise<VerifiedAdapter> {
    const started = performance.now()
    const held = host.get(pull.digest)
    if (held) return held
    const adapter = await fetchAdapter(deps, pull.digest, pull.capability, signal)
    checkFit(adapter, await baseDigest(adapter.manifest.base), engine.info)
    host.put(adapter)
    onDisk.set(adapter.digest, adapter.file.size)
    onLoad?.({ digest: pull.digest, from: adapter.from, ms: performance.now() - started })
    return adapter
  }

  /** Shares a load with whoever asks for the same bytes; a right that was refused is not held against another's. */
  async function fetchShared(pull: AdapterPull, signal: AbortSignal): Promise<VerifiedAdapter> {
    const held = host.get(pull.digest)
    if (held) return held
    let mine = false
    try {
      return await shareFetch(pull.digest, signal, (shared) => {
        mine = true
        return fetchOnce(pull, shared)
      })
    } catch (e) {
      if (mine || !isGraftError(e) || !RIGHTS.includes(e.code)) throw e
      return fetchOnce(pull, signal)
    }
  }

  async function prove(
    adapter: VerifiedAdapter,
    pull: AdapterPull,
    tenant: string,
    signal: AbortSignal,
  ): Promise<AdmissionResult> {
    const { goldens, digest } = adapter
    const blob = goldens && { digest: goldens.logits.sha256, size: goldens.logits.size }
    const logits = blob && (await fetchBlob(deps, blob, pull.capability, signal)).bytes
    const requestId = `admission:${pull.label}`
    const { vocab } = engine.info
    return admission.prove(adapter, logits, (tokenIds, adapted, positions) => {
      const job = {
        requestId,
        tenant,
        adapter: adapted ? digest : null,
        tokenIds,
        positions,
        vocab,
      }
      return scorePrompt(scheduler, job, signal)
    })
  }

  async function admit(
    adapter: VerifiedAdapter,
    pull: AdapterPull,
    tenant: string,
    signal: AbortSignal,
  ): Promise<void> {
    const { digest } = adapter
    if (admitted.has(digest)) return
    const no = refused.get(digest)
    if (no && no.until > now()) throw no.error
    await shareAdmission(digest, signal, async (shared) => {
      const known = admitted.get(digest) ?? (await admission.recall(digest))
      // A pin of its own: who asked may leave while the goldens still run.
      const unpin = await bank.pin(adapter.loaded, shared)
      try {
        const result = known ?? (await prove(adapter, pull, tenant, shared))
        admitted.set(digest, result)
        onAdmission?.(known ? 'recalled' : result.proven ? 'proven' : 'unproven')
        return result
      } catch (e) {
        if (isGraftError(e) && e.code === 'ERR_ADMISSION_FAILED') {
          onAdmission?.('refused')
          // Dropped, so that goldens signed meanwhile are seen when it is asked for again.
          host.remove(digest)
          refused.set(digest, { error: e, until: now() + REFUSAL_MS })
        }
        throw e
      } finally {
        unpin()
      }
    })
  }

  function assertComposable(adapter: VerifiedAdapter, pull: AdapterPull, count: number): void {
    if (count === 1 && Number(pull.weight) === 1) return
    const single = adapter.loaded.operations.find(({ op }) => !OPERATIONS[op].composable)
    if (single)
      throw new GraftError(
        'ERR_NOT_COMPOSABLE',
        `${pull.label} has ${single.op} at ${single.site}, which can be neither weighted nor summed; call it by itself with weight 1`,
      )
  }

  async function acquireOne(
    pull: AdapterPull,
    count: number,
    tenant: string,
    signal: AbortSignal,
  ): Promise<{ adapter: VerifiedAdapter; unpin: () => void }> {
    const adapter = await fetchShared(pull, signal)
    assertComposable(adapter, pull, count)
    const unpin = await bank.pin(adapter.loaded, signal)
    try {
      await admit(adapter, pull, tenant, signal)
      return { adapter, unpin }
    } catch (e) {
      unpin()
      // What was refused must not stand where a later bug could use it. While others still prove it, it is pinned.
      if (!admitted.has(pull.digest)) await bank.evict(pull.digest)
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
      for (const { unpin } of held) unpin()
    }
    const failed = results.find((result) => result.status === 'rejected')
    if (failed) {
      release()
      throw failed.reason
    }
    return {
      adapters: pulls.map(({ digest, weight }) => ({ digest, weight: Number(weight) })),
      virtualTokens: Math.max(0, ...held.map(({ adapter }) => virtualTokens(adapter))),
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
    residency() {
      const found = new Map<Digest, AdapterResidency>()
      for (const [digest, bytes] of onDisk) found.set(digest, { digest, tier: 'disk', bytes })
      for (const { digest, bytes } of host.entries())
        found.set(digest, { digest, tier: 'host', bytes })
      // Being in the bank is not enough to be called: the goldens may still be running.
      for (const { digest, bytes } of bank.entries())
        if (admitted.has(digest)) found.set(digest, { digest, tier: 'bank', bytes })
      return [...found.values()]
    },
  }
}

const virtualTokens = ({ loaded }: VerifiedAdapter): number =>
  Math.max(0, ...loaded.operations.map((op) => ('virtualTokens' in op ? op.virtualTokens : 0)))
