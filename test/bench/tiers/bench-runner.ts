import { join } from 'node:path'
import { createRunner, type Runner, type RunnerLimits } from '@graft/runner/app.ts'
import { describeCheckpoint } from '@graft/runner/checkpoint/describe-checkpoint.ts'
import type { ModelConfig } from '@graft/runner/checkpoint/model-config.ts'
import type { Engine } from '@graft/runner/engine/engine.ts'
import { type EngineOptions, openEngine } from '@graft/runner/engine/open-engine.ts'
import type { TextCodec } from '@graft/runner/tokenizer/tokenizer.ts'
import { type SigningKey, signJwt } from '@graft/sdk/format/jws.ts'
import { JWS_TYPES } from '@graft/sdk/format/manifest.ts'
import type { BaseRecord } from '@graft/sdk/protocol/registry-api.ts'
import { requestHash } from '@graft/sdk/protocol/request-hash.ts'
import type { AdapterPull, Frame, GenerateRequest } from '@graft/sdk/protocol/runner-api.ts'
import { GREEDY } from '../../gpu-runner/helpers/greedy.ts'
import { randomBase } from '../random-base.ts'
import { writeRandomFolder } from '../random-folder.ts'
import { SHAPES } from '../shapes.ts'

export const RUNNER_ID = 'bench'

/** Prompts here are token ids: no text is needed, and no random token may end an answer. */
const noText: TextCodec = {
  encodePrompt: (prompt) => (prompt.kind === 'tokens' ? prompt.tokenIds : []),
  decode: () => '',
  tokenText: () => '',
  stream: () => ({ push: () => '', flush: () => '' }),
  eosTokenIds: new Set(),
  tokenBytes: () => null,
}

export interface BenchEngine {
  engine: Engine
  config: ModelConfig
  base: BaseRecord
}

/** The 135M shape with random weights as a folder, and the engine in its own thread over it. */
export async function openBenchEngine(
  stack: AsyncDisposableStack,
  options: Partial<EngineOptions>,
): Promise<BenchEngine> {
  const checkpoint = randomBase('random-135m', SHAPES['135m'])
  const folder = await writeRandomFolder(checkpoint)
  stack.defer(() => folder.remove())
  const base = await describeCheckpoint(folder.dir, 'random-135m')
  const engine = await openEngine({
    checkpointDir: folder.dir,
    baseDigest: base.digest,
    precision: 'int4',
    ...options,
  })
  stack.defer(() => engine[Symbol.asyncDispose]())
  return { engine, config: checkpoint.config, base }
}

/** The whole runner over an engine, without a socket: requests and answers are those of its HTTP surface. */
export function openBenchRunner(
  { engine, base }: BenchEngine,
  deps: {
    key: SigningKey
    fleetKey: SigningKey
    registryUrl: string
    state: string
    limits: Partial<RunnerLimits>
    policy: 'goldens' | 'allow-unproven'
  },
): Runner {
  const { key, fleetKey, registryUrl, state, limits, policy } = deps
  return createRunner({
    id: RUNNER_ID,
    engine,
    codec: noText,
    baseTensors: base.tensors,
    registry: { url: registryUrl, fetch: globalThis.fetch },
    cacheFolder: join(state, 'adapters'),
    key,
    fleetKeys: [fleetKey.publicJwk],
    clock: () => new Date(),
    policy,
    limits,
  })
}

export interface Call {
  tenant: string
  adapters: AdapterPull[]
  tokenIds: number[]
  maxTokens: number
  /** Every token as it comes. */
  onToken?: () => void
  signal?: AbortSignal
}

/** @returns milliseconds to the first token. @throws Error with the code when the answer is none */
export function createCaller(runner: Runner, { base }: BenchEngine, fleetKey: SigningKey) {
  let count = 0
  let token = { value: '', until: 0 }
  const authorization = async (): Promise<string> => {
    const now = Math.floor(Date.now() / 1000)
    if (token.until < now + 10) {
      const claims = { iss: 'bench', aud: RUNNER_ID, role: 'edge', iat: now, exp: now + 60 }
      token = { value: await signJwt(claims, JWS_TYPES.fleet, fleetKey), until: now + 60 }
    }
    return `Bearer ${token.value}`
  }
  return async ({ tenant, adapters, tokenIds, maxTokens, onToken, signal }: Call) => {
    const ask = {
      requestId: `bench-${++count}`,
      tenant,
      base: base.digest,
      adapters,
      prompt: { kind: 'tokens' as const, tokenIds },
      sampling: GREEDY,
      maxTokens,
      n: 1,
      deadline: null,
    }
    const body: GenerateRequest = { ...ask, requestHash: await requestHash(ask) }
    const headers = { authorization: await authorization() }
    const request = new Request('http://bench/v1/generate', {
      method: 'POST',
      headers,
      body: JSON.stringify(body),
      ...(signal ? { signal } : {}),
    })
    const begin = performance.now()
    const response = await runner.fetch(request)
    if (!response.ok) throw new Error(await response.text())
    let first: number | null = null
    for await (const frame of frames(response)) {
      if (frame.type === 'error') throw new Error(`${frame.code}: ${frame.message}`)
      if (frame.type !== 'tokens') continue
      first ??= performance.now() - begin
      onToken?.()
    }
    return first ?? Number.NaN
  }
}

async function* frames(response: Response): AsyncGenerator<Frame> {
  let held = ''
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    const lines = (held + chunk).split('\n')
    held = lines.pop()!
    for (const line of lines) if (line !== '') yield JSON.parse(line) as Frame
  }
}
