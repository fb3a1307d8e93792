import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createRunner, type Runner, type RunnerDeps } from '@graft/runner/app.ts'
import type { EngineInfo } from '@graft/runner/engine/engine.ts'
import type { TextCodec } from '@graft/runner/tokenizer/tokenizer.ts'
import type { BaseDescription } from '@graft/sdk/format/base-identity.ts'
import { generateSigningKey, type SigningKey } from '@graft/sdk/format/jws.ts'
import { requestHash } from '@graft/sdk/protocol/request-hash.ts'
import type { Frame, GenerateRequest } from '@graft/sdk/protocol/runner-api.ts'
import { createFleetCaller, framesOf } from './fleet-caller.ts'
import { GREEDY } from './greedy.ts'
import { createTestRegistry, describeTestBase, type TestRegistry } from './published.ts'
import { createScriptedEngine, type ScriptedEngine, VOCAB } from './scripted-engine.ts'

/** One letter a token: 3 -> "d". 2 ends an answer. */
export const letters: TextCodec = {
  encodePrompt: (prompt) =>
    prompt.kind === 'tokens'
      ? prompt.tokenIds
      : [...(prompt.kind === 'text' ? prompt.text : '')].map((c) => c.charCodeAt(0) - 97),
  decode: (ids) => ids.map((id) => String.fromCharCode(97 + id)).join(''),
  tokenText: (id) => String.fromCharCode(97 + id),
  stream: () => ({ push: (id) => String.fromCharCode(97 + id), flush: () => '' }),
  eosTokenIds: new Set([2]),
  tokenBytes: () =>
    Array.from({ length: VOCAB }, (_, id) => (id === 2 ? null : Uint8Array.of(97 + id))),
}

export interface TestRunner {
  runner: Runner
  engine: ScriptedEngine
  registry: TestRegistry
  base: BaseDescription
  key: SigningKey
  fleetKey: SigningKey
  deps: RunnerDeps
  token(claims?: Record<string, unknown>): Promise<string>
  request(change?: Partial<GenerateRequest>): Promise<GenerateRequest>
  post(path: string, body: unknown, signal?: AbortSignal): Promise<Response>
  /** All frames of a request; a refusal is thrown as its ErrorBody. */
  frames(change?: Partial<GenerateRequest>): Promise<Frame[]>
  close(): Promise<void>
}

export async function startTestRunner(
  options: { info?: Partial<EngineInfo>; deps?: Partial<RunnerDeps>; registry?: TestRegistry } = {},
): Promise<TestRunner> {
  const base = await describeTestBase()
  const identity = { base: { name: 'scripted', digest: base.digest } }
  const engine = createScriptedEngine({ ...identity, ...options.info })
  const registry = options.registry ?? createTestRegistry()
  const folder = await mkdtemp(join(tmpdir(), 'graft-runner-'))
  const key = options.deps?.key ?? (await generateSigningKey())
  const fleetKey = await generateSigningKey()
  const deps: RunnerDeps = {
    id: 'r1',
    engine,
    codec: letters,
    baseTensors: base.tensors,
    registry,
    cacheFolder: folder,
    fleetKeys: [fleetKey.publicJwk],
    clock: () => new Date(),
    ...options.deps,
    key,
  }
  const runner = createRunner(deps)
  const { token, ask } = createFleetCaller(() => runner, fleetKey)
  const request: TestRunner['request'] = async (change = {}) => {
    const body: GenerateRequest = {
      requestId: 'req_1',
      requestHash: base.digest,
      tenant: 'acme',
      base: base.digest,
      adapters: [],
      prompt: { kind: 'text', text: 'fg' },
      sampling: GREEDY,
      maxTokens: 4,
      n: 1,
      deadline: null,
      ...change,
    }
    return { ...body, requestHash: change.requestHash ?? (await requestHash(body)) }
  }
  const post: TestRunner['post'] = (path, body, signal) => ask('POST', path, body, signal)
  return {
    runner,
    engine,
    registry,
    base,
    key,
    fleetKey,
    deps,
    token,
    request,
    post,
    frames: async (change) => framesOf(await post('/v1/generate', await request(change))),
    async close() {
      await runner[Symbol.asyncDispose]()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

export const textOf = (frames: Frame[], choice = 0): string =>
  frames.map((f) => (f.type === 'tokens' && f.choice === choice ? f.text : '')).join('')

export const idsOf = (frames: Frame[], choice = 0): number[] =>
  frames.flatMap((f) => (f.type === 'tokens' && f.choice === choice ? f.tokenIds : []))
