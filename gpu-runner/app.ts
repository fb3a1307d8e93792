import type { BaseTensor } from '@graft/sdk/format/base-identity.ts'
import { errorResponse, GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import type { SigningKey } from '@graft/sdk/format/jws.ts'
import type { RunnerStatus } from '@graft/sdk/protocol/runner-api.ts'
import { Hono } from 'hono'
import { type AdmissionPolicy, createAdmission } from './admission/admission.ts'
import { scorePrompt } from './admission/score.ts'
import type { Engine } from './engine/engine.ts'
import { generate } from './generation/generate.ts'
import { authenticate } from './http/authenticate.ts'
import { frameStream } from './http/frame-stream.ts'
import { readBody } from './http/read-body.ts'
import { countSchema, generateSchema, parse, prefetchSchema } from './http/schemas.ts'
import { mergeRoutes } from './merging/merge-routes.ts'
import { createMergedForms } from './merging/merged-forms.ts'
import { createMerging, MERGING_TENANT, type MergingOptions } from './merging/merging.ts'
import { createMetrics } from './metrics.ts'
import { createConstraints } from './sampling/grammar/constraints.ts'
import { createScheduler, type SchedulerLimits } from './scheduler/scheduler.ts'
import { createAdapters } from './tiers/adapters.ts'
import { createBank } from './tiers/bank.ts'
import { createDiskCache } from './tiers/disk-cache.ts'
import { createHostCache } from './tiers/host-cache.ts'
import { createLoader } from './tiers/loader/loader.ts'
import { createRegistrySource } from './tiers/registry-source.ts'
import type { TextCodec } from './tokenizer/tokenizer.ts'

export interface RunnerLimits extends SchedulerLimits {
  /** Verified adapters kept in host memory, downloads under way and goldens among them. @default 1 GiB */
  hostBytes: number
  /** Files of the disk tier. @default 20 GiB */
  diskBytes: number
  /** Largest adapter file that is pulled. @default 2 GiB */
  maxAdapterBytes: number
}

export interface RunnerDeps {
  /** The audience of tokens for this runner. */
  id: string
  engine: Engine
  codec: TextCodec
  /** Names and shapes of the base's tensors: what an adapter's sites are held against. */
  baseTensors: readonly BaseTensor[]
  registry: { url: string; fetch: typeof fetch }
  /** Folder of the disk tier and of signed admissions. */
  cacheFolder: string
  /** Signs receipts and admissions. */
  key: SigningKey
  /** Public keys of the fleet: whose tokens are let in. */
  fleetKeys: readonly JsonWebKey[]
  clock: () => Date
  /** @default 'goldens' */
  policy?: AdmissionPolicy
  limits?: Partial<RunnerLimits>
  /** Merges adapters into second copies of the base. @default it does not */
  merging?: MergingOptions
  /** Defects, for the operator. */
  onDefect?: (e: unknown) => void
}

export interface Runner extends AsyncDisposable {
  fetch(request: Request): Promise<Response>
  status(): RunnerStatus
  readonly draining: boolean
  /** Takes nothing new; resolves when what runs has been answered. */
  drain(): Promise<void>
}

const GIB = 1024 ** 3
/** Of host memory, for goldens under way: they are needed once, and a few adapters are proven at a time. */
const EVIDENCE_SHARE = 1 / 8

/** One base model behind the HTTP surface of sdk/protocol/runner-api.ts. Owns the scheduler, not the engine. */
export function createRunner(deps: RunnerDeps): Runner {
  const { id, engine, codec, key, clock, policy = 'goldens', limits = {}, onDefect } = deps
  const metrics = createMetrics()
  const now = (): number => clock().getTime()
  const disk = createDiskCache(deps.cacheFolder, limits.diskBytes ?? 20 * GIB)
  const hostBytes = limits.hostBytes ?? GIB
  const evidenceBytes = Math.floor(hostBytes * EVIDENCE_SHARE)
  const host = createHostCache(hostBytes - evidenceBytes)
  const evidence = createHostCache(evidenceBytes, { what: 'the logits of goldens' })
  const scheduler = createScheduler({
    engine,
    now,
    limits,
    onStep({ ms, rows }) {
      metrics.observe('graft_step_seconds', ms)
      metrics.count('graft_steps_total')
      metrics.count('graft_step_rows_total', {}, rows)
    },
  })
  const scoreBase = (tokenIds: number[], positions: number[]): Promise<Float32Array> => {
    const { vocab } = engine.info
    const job = { requestId: 'admission:merged', tenant: MERGING_TENANT, adapter: null }
    return scorePrompt(
      scheduler,
      { ...job, tokenIds, positions, vocab },
      new AbortController().signal,
    )
  }
  const forms = deps.merging ? createMergedForms(deps.merging.engine) : null
  const adapters = createAdapters({
    engine,
    scheduler,
    bank: createBank(engine, {
      onLoad: ({ ms }) => metrics.observe('graft_bank_load_seconds', ms),
      onEvict: () => metrics.count('graft_bank_evictions_total'),
    }),
    forms,
    host,
    evidence,
    loader: createLoader(deps.baseTensors),
    admission: createAdmission({ engine: engine.info, disk, key, policy, clock }),
    disk,
    now,
    source: createRegistrySource(deps.registry),
    maxAdapterBytes: limits.maxAdapterBytes ?? 2 * GIB,
    onLoad({ from, ms }) {
      metrics.count('graft_adapter_loads_total', { from })
      metrics.observe('graft_adapter_load_seconds', ms, { from })
    },
    onAdmission: (outcome) => metrics.count('graft_admissions_total', { outcome }),
  })
  const constraints = createConstraints(() => {
    const bytes = codec.tokenBytes()
    return bytes && { bytes, stop: [...codec.eosTokenIds] }
  })
  const merging =
    deps.merging && forms
      ? createMerging({ ...deps.merging, adapters, forms, policy, now, scoreBase })
      : null
  let draining = false
  let active = 0
  const idlers: (() => void)[] = []
  metrics.gauge('graft_running', 'Sequences that hold a slot.', () => scheduler.running)
  metrics.gauge('graft_waiting', 'Sequences that wait for a slot.', () => scheduler.waiting)
  metrics.gauge('graft_slots', 'Most sequences at once.', () => engine.info.slots)
  metrics.gauge('graft_tokens_per_second', 'Answer tokens per second over ten seconds.', () =>
    scheduler.tokensPerSecond(),
  )
  const bankBytes = () =>
    adapters.residency().reduce((n, { tier, bytes }) => n + (tier === 'bank' ? bytes : 0), 0)
  metrics.gauge('graft_bank_bytes', 'Bytes of admitted adapters in the bank.', bankBytes)
  metrics.gauge('graft_bank_budget_bytes', 'The bank.', () => engine.info.bankBudgetBytes)
  metrics.gauge(
    'graft_host_bytes',
    'Adapters in host memory or on their way.',
    () => host.usedBytes + evidence.usedBytes,
  )
  metrics.gauge('graft_disk_bytes', 'Files of the disk tier.', () => disk.usedBytes)

  metrics.gauge('graft_merged_adapters', 'Adapters whose new answers run merged.', () =>
    merging ? merging.status().forms.length : 0,
  )

  const status = (): RunnerStatus => ({
    id,
    build: engine.info.build,
    base: engine.info.base,
    operations: engine.info.operations,
    maxPositions: engine.info.maxPositions,
    slots: engine.info.slots,
    running: scheduler.running,
    waiting: scheduler.waiting,
    tokensPerSecond: scheduler.tokensPerSecond(),
    residency: adapters.residency(),
    key: key.publicJwk,
  })

  const leave = (outcome: string, started: number): void => {
    metrics.count('graft_requests_total', { outcome })
    metrics.observe('graft_request_seconds', performance.now() - started)
    if (--active === 0) for (const resolve of idlers.splice(0)) resolve()
  }

  async function answer(request: Request): Promise<Response> {
    if (draining)
      throw new GraftError('ERR_OVERLOADED', `runner ${id} is draining; another takes its place`, {
        retryAfter: 1,
      })
    const started = performance.now()
    active++
    const gone = new AbortController()
    const cancel = (): void => {
      gone.abort(new GraftError('ERR_CANCELLED', 'the caller has left'))
      finish('ERR_CANCELLED')
    }
    request.signal.addEventListener('abort', cancel)
    let outcome: string | null = null
    const finish = (how: string): void => {
      if (outcome !== null) return
      outcome = how
      request.signal.removeEventListener('abort', cancel)
      leave(how, started)
    }
    try {
      const body = parse(generateSchema, await readBody(request))
      const run = { id, engine: engine.info, codec, scheduler, adapters, constraints, key, clock }
      const frames = await generate(run, body, gone.signal)
      let first = true
      const stream = frameStream(frames, {
        onFrame(frame) {
          if (frame.type === 'tokens' && first) {
            first = false
            metrics.observe('graft_first_token_seconds', performance.now() - started)
          }
          if (frame.type === 'done') {
            metrics.count('graft_tokens_total', { kind: 'prompt' }, frame.tokens.prompt)
            metrics.count('graft_tokens_total', { kind: 'completion' }, frame.tokens.completion)
            finish('done')
          }
          if (frame.type === 'error') finish(frame.code)
        },
        onCancel: cancel,
        onDefect: (e) => onDefect?.(e),
      })
      return new Response(stream, { headers: { 'content-type': 'application/x-ndjson' } })
    } catch (e) {
      finish(isGraftError(e) ? e.code : 'ERR_INTERNAL')
      throw e
    }
  }

  const app = new Hono()
  app.get('/healthz', (c) =>
    scheduler.healthy
      ? c.json({ ok: true, draining })
      : c.json({ ok: false, reason: 'the engine failed several steps in a row' }, 503),
  )
  app.get('/metrics', (c) => c.text(metrics.text()))
  app.use('/v1/*', async (c, next) => {
    const fleet = { keys: deps.fleetKeys, audience: id, now: clock() }
    await authenticate(c.req.header('authorization'), fleet)
    await next()
  })
  app.get('/v1/status', (c) => c.json(status()))
  app.post('/v1/count', async (c) => {
    const { prompt } = parse(countSchema, await readBody(c.req.raw))
    return c.json({ tokens: codec.encodePrompt(prompt).length })
  })
  app.post('/v1/generate', (c) => answer(c.req.raw))
  app.post('/v1/adapters/prefetch', async (c) => {
    adapters.prefetch(parse(prefetchSchema, await readBody(c.req.raw)), 'prefetch')
    return c.json({})
  })
  app.route('/v1/merges', mergeRoutes(merging))
  app.get('/v1/steps', (c) => {
    const after = Number(c.req.query('after') ?? 0)
    if (!Number.isSafeInteger(after) || after < 0)
      throw new GraftError('ERR_REQUEST_INVALID', 'after must be the number of a step')
    return c.json({ steps: scheduler.log.after(after) })
  })
  const refuse = (e: unknown): Response => {
    if (!isGraftError(e)) onDefect?.(e)
    const { status: code, body } = errorResponse(e)
    const seconds = isGraftError(e) ? e.retryAfter : undefined
    const headers = seconds === undefined ? {} : { 'retry-after': String(Math.ceil(seconds)) }
    return Response.json(body, { status: code, headers })
  }
  app.notFound((c) =>
    refuse(new GraftError('ERR_ROUTE_UNKNOWN', `a runner has no ${c.req.method} ${c.req.path}`)),
  )
  app.onError(refuse)

  const drain = async (): Promise<void> => {
    draining = true
    if (active > 0) await new Promise<void>((resolve) => idlers.push(resolve))
  }

  return {
    fetch: async (request) => app.fetch(request),
    status,
    get draining() {
      return draining || !scheduler.healthy
    },
    drain,
    async [Symbol.asyncDispose]() {
      draining = true
      merging?.close()
      await scheduler[Symbol.asyncDispose]()
      await constraints[Symbol.asyncDispose]()
      await adapters[Symbol.asyncDispose]()
    },
  }
}
