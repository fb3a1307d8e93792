import { mkdir, readFile, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { BaseTensor } from '@graft/sdk/format/base-identity.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import {
  exportSigningKey,
  generateSigningKey,
  importSigningKey,
  type SigningKey,
} from '@graft/sdk/format/jws.ts'
import { createAdaptorServer } from '@hono/node-server'
import type { AdmissionPolicy } from './admission/admission.ts'
import { createRunner, type RunnerLimits } from './app.ts'
import { describeCheckpoint } from './checkpoint/describe-checkpoint.ts'
import type { Engine } from './engine/engine.ts'
import { type EngineOptions, openEngine } from './engine/open-engine.ts'
import { startHeartbeats } from './heartbeat.ts'
import type { MergeOption } from './merging/merge-option.ts'
import type { MergeEvent, MergingOptions } from './merging/merging.ts'
import { openMerging } from './merging/open-merging.ts'
import { openTokenizer } from './tokenizer/open-tokenizer.ts'

export interface ServeOptions {
  /** Folder of a Hugging Face checkpoint. */
  checkpoint: string
  /** URL of the registry that adapters come from. */
  registry: string
  /** URL of the edge that is told of this runner; null = none. */
  edge: string | null
  /** 0 = any free port. */
  port: number
  /** @default '127.0.0.1' */
  host?: string
  /** What the edge calls. @default http://<host>:<port> */
  publicUrl?: string
  /** Folder for the runner's key, its adapters and its admissions. */
  state: string
  id: string
  /** Private JWK of the fleet. */
  fleetKey: JsonWebKey
  /** @default 'fp32' */
  precision?: NonNullable<EngineOptions['precision']>
  /** Where the graph runs. @default 'cpu' */
  execution?: NonNullable<EngineOptions['execution']>
  /** Most sequences at once. @default what the engine chooses */
  slots?: number
  /** Threads of the engine. @default what the engine chooses */
  threads?: number
  /** Bytes of adapters in the engine's bank. @default what the engine chooses */
  bankBudgetBytes?: number
  bankPrecision?: NonNullable<EngineOptions['bankPrecision']>
  /** How keys and values of open sequences are held. @default 'fp32' */
  kvPrecision?: NonNullable<EngineOptions['kvPrecision']>
  /** Bytes of keys and values of open sequences. @default what the engine chooses */
  kvBudgetBytes?: number
  /** Bytes of prompt blocks kept for later requests; 0 = none. @default what the engine chooses */
  prefixBudgetBytes?: number
  /** @default 'goldens' */
  policy?: AdmissionPolicy
  /** When adapters are merged into second copies of the base. @default never */
  merge?: MergeOption
  limits?: Partial<RunnerLimits>
  /** One line per event. */
  log?: (event: Record<string, unknown>) => void
}

/** How long answers under way may take once the runner is told to stop. */
const DRAIN_MS = 30_000

export interface ServedRunner {
  url: string
  /** Drains, then frees everything. */
  close(): Promise<void>
}

/** The runner's own key: made on the first start, kept, readable by nobody else. */
async function openKey(state: string): Promise<SigningKey> {
  const path = join(state, 'runner-key.json')
  await mkdir(state, { recursive: true })
  try {
    return await importSigningKey(JSON.parse(await readFile(path, 'utf8')))
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT')
      throw new GraftError(
        'ERR_STATE_DAMAGED',
        `${path} must hold the runner's private JWK; remove it to get a new key`,
        { cause },
      )
  }
  const key = await generateSigningKey()
  await writeFile(path, JSON.stringify(await exportSigningKey(key)), { mode: 0o600, flag: 'wx' })
  return key
}

function listen(server: ReturnType<typeof createAdaptorServer>, port: number, host: string) {
  return new Promise<number>((resolve, reject) => {
    server.once('error', (e: NodeJS.ErrnoException) => {
      const taken = e.code === 'EADDRINUSE'
      const message = taken
        ? `port ${port} must be free, and another program listens on it; choose one with --port`
        : `cannot listen on ${host}:${port}: ${e.message}`
      reject(new GraftError(taken ? 'ERR_PORT_TAKEN' : 'ERR_INTERNAL', message, { cause: e }))
    })
    server.listen(port, host, () => resolve((server.address() as AddressInfo).port))
  })
}

/** The base, and merging over it where that is asked for. */
async function openServing(
  options: EngineOptions,
  tensors: readonly BaseTensor[],
  merge: MergeOption = { when: 'never' },
  onEvent: (event: MergeEvent) => void,
): Promise<{ engine: Engine; merging: MergingOptions | null }> {
  const begin = performance.now()
  const base = await openEngine(options)
  if (merge.when === 'never') return { engine: base, merging: null }
  try {
    const opened = { engine: base, options, tensors, ms: performance.now() - begin }
    const merging = { ...(await openMerging(opened, merge)), onEvent }
    return { engine: merging.engine, merging }
  } catch (e) {
    await base[Symbol.asyncDispose]()
    throw e
  }
}

/** Opens the base, listens, and tells the edge. Resolves once requests can be answered. */
export async function serveRunner(options: ServeOptions): Promise<ServedRunner> {
  const { checkpoint, state, id, host = '127.0.0.1', log } = options
  const {
    precision = 'fp32',
    execution = 'cpu',
    slots,
    threads,
    bankBudgetBytes,
    bankPrecision,
    kvPrecision,
    kvBudgetBytes,
    prefixBudgetBytes,
  } = options
  const clock = (): Date => new Date()
  const fleetKey = await importSigningKey(options.fleetKey)
  const key = await openKey(state)
  const base = await describeCheckpoint(checkpoint)
  const engineOptions = {
    preparedDir: join(state, 'prepared'),
    checkpointDir: checkpoint,
    baseDigest: base.digest,
    precision,
    execution,
    ...(slots === undefined ? {} : { slots }),
    ...(threads === undefined ? {} : { threads }),
    ...(bankBudgetBytes === undefined ? {} : { bankBudgetBytes }),
    ...(bankPrecision === undefined ? {} : { bankPrecision }),
    ...(kvPrecision === undefined ? {} : { kvPrecision }),
    ...(kvBudgetBytes === undefined ? {} : { kvBudgetBytes }),
    ...(prefixBudgetBytes === undefined ? {} : { prefixBudgetBytes }),
  }
  const onEvent = (event: MergeEvent): void => log?.({ ...event })
  const { engine, merging } = await openServing(engineOptions, base.tensors, options.merge, onEvent)
  const codec = await openTokenizer(checkpoint, engine.info.vocab)
  const runner = createRunner({
    id,
    engine,
    codec,
    baseTensors: base.tensors,
    registry: { url: options.registry, fetch: globalThis.fetch },
    cacheFolder: join(state, 'adapters'),
    key,
    fleetKeys: [fleetKey.publicJwk],
    clock,
    policy: options.policy ?? 'goldens',
    ...(merging ? { merging } : {}),
    limits: options.limits ?? {},
    onDefect: (e) => log?.({ event: 'defect', error: e instanceof Error ? e.stack : String(e) }),
  })
  const server = createAdaptorServer({ fetch: (request) => runner.fetch(request) })
  const dispose = async (): Promise<void> => {
    await runner[Symbol.asyncDispose]()
    await engine[Symbol.asyncDispose]()
  }
  const port = await listen(server, options.port, host).catch(async (e) => {
    await dispose()
    throw e
  })
  const url = options.publicUrl ?? `http://${host}:${port}`
  const beats =
    options.edge === null
      ? null
      : startHeartbeats({
          edgeUrl: options.edge,
          fetch: globalThis.fetch,
          fleetKey,
          clock,
          beat: () => ({ url, status: runner.status(), draining: runner.draining }),
          onChange: (reachable, why) => log?.({ event: 'edge', reachable, why }),
        })
  return {
    url,
    async close() {
      const drained = runner.drain()
      await beats?.send()
      let timer: ReturnType<typeof setTimeout> | undefined
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, DRAIN_MS)
      })
      await Promise.race([drained, late])
      clearTimeout(timer)
      beats?.stop()
      server.close()
      if ('closeAllConnections' in server) server.closeAllConnections()
      await dispose()
    },
  }
}
