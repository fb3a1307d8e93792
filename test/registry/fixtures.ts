import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  createNodeRegistry,
  type NodeRegistryOptions,
} from '@graft/registry/node/create-node-registry.ts'
import { describeBase } from '@graft/sdk/format/base-identity.ts'
import { type Digest, sha256 } from '@graft/sdk/format/digest.ts'
import { generateSigningKey, type SigningKey, signEnvelope } from '@graft/sdk/format/jws.ts'
import {
  type FileRow,
  type Goldens,
  JWS_TYPES,
  MANIFEST_SCHEMA,
  type Manifest,
} from '@graft/sdk/format/manifest.ts'
import type { Operation } from '@graft/sdk/format/operations.ts'
import { manifestBytes, manifestDigest } from '@graft/sdk/format/parse-manifest.ts'
import { writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import { goldensStatement, statementBytes } from '@graft/sdk/format/statements.ts'
import type {
  BaseRecord,
  MissingParts,
  PublishAnswer,
  PublishRequest,
  TokenAnswer,
} from '@graft/sdk/protocol/registry-api.ts'
import type { Scope } from '@graft/sdk/protocol/tokens.ts'
import { mulberry32 } from '../random.ts'

export const SETUP_CODE = 'let-me-in'
export const ISSUER = 'https://registry.test'

/** In memory where the system has such a folder: tests sync often, and a busy disk would only make them slow. */
function fastFolder(): string {
  try {
    accessSync('/dev/shm', constants.W_OK)
    return '/dev/shm'
  } catch {
    return tmpdir()
  }
}

/** Where a test's registry keeps its state; `clean` removes it. */
export function temporaryFolder(): { path: string; clean(): void } {
  const path = mkdtempSync(join(fastFolder(), 'graft-registry-'))
  return { path, clean: () => rmSync(path, { recursive: true, force: true }) }
}

/** Little-endian f32 of `count` numbers in [-0.5, 0.5). */
export function floats(count: number, seed: number): Uint8Array {
  const next = mulberry32(seed)
  return new Uint8Array(Float32Array.from({ length: count }, () => next() - 0.5).buffer)
}

const HIDDEN = 8
const Q = 'model.layers.0.self_attn.q_proj'

/** A one-layer Llama of hidden size 8: enough to have sites. */
export async function tinyBase(name = 'tiny-base', seed = 1): Promise<BaseRecord> {
  const matrix = (rows: number, columns: number, at: number) => ({
    dtype: 'F32',
    shape: [rows, columns],
    data: floats(rows * columns, seed + at),
  })
  const layer = 'model.layers.0'
  const names = ['q_proj', 'k_proj', 'v_proj', 'o_proj'].map(
    (p) => `${layer}.self_attn.${p}.weight`,
  )
  const bytes = writeSafetensors(
    new Map([
      ['model.embed_tokens.weight', matrix(16, HIDDEN, 0)],
      ...names.map((n, i) => [n, matrix(HIDDEN, HIDDEN, i + 1)] as const),
    ]),
  )
  const config = { architectures: ['LlamaForCausalLM'], model_type: 'llama', hidden_size: HIDDEN }
  return describeBase({
    name,
    configJson: new TextEncoder().encode(JSON.stringify(config)),
    tokenizerJson: null,
    files: [
      {
        path: 'model.safetensors',
        size: bytes.length,
        sha256: await sha256(bytes),
        header: bytes,
      },
    ],
  })
}

export interface Adapter {
  manifest: Manifest
  digest: Digest
  /** adapter.safetensors and, when there are goldens, their logits. */
  files: Map<Digest, Uint8Array>
  goldens: Goldens | null
}

export interface AdapterOptions {
  name?: string
  version?: string
  base: BaseRecord
  seed?: number
  rank?: number
  /** Changes the weights before they are digested. */
  weights?: { A?: Uint8Array; B?: Uint8Array }
  withGoldens?: boolean
  /** A scale on the query projection instead of a low-rank update. */
  kind?: 'low_rank' | 'scale'
  /** Fields to add or replace in the manifest. */
  fields?: Record<string, unknown>
  /** The stored file, when it is not to be what the tensors say. */
  file?: (bytes: Uint8Array) => Uint8Array
}

/** A manifest built by hand, without the importer, so that the registry is tested against the format's text. */
export async function adapter(options: AdapterOptions): Promise<Adapter> {
  const { name = '@acme/sql', version = '1.0.0', base, seed = 7, rank = 2 } = options
  const tensors = new Map<string, { dtype: string; shape: number[]; data: Uint8Array }>()
  const operations: Operation[] = []
  if (options.kind === 'scale') {
    tensors.set(`${Q}::l`, { dtype: 'F32', shape: [HIDDEN], data: floats(HIDDEN, seed) })
    const slots = { l: `${Q}::l` }
    operations.push({ op: 'scale', site: Q, side: 'output', size: HIDDEN, slots })
  } else {
    const A = options.weights?.A ?? floats(rank * HIDDEN, seed)
    const B = options.weights?.B ?? floats(rank * HIDDEN, seed + 1)
    tensors.set(`${Q}::A`, { dtype: 'F32', shape: [rank, HIDDEN], data: A })
    tensors.set(`${Q}::B`, { dtype: 'F32', shape: [HIDDEN, rank], data: B })
    const slots = { A: `${Q}::A`, B: `${Q}::B` }
    operations.push({ op: 'low_rank', site: Q, in: HIDDEN, out: HIDDEN, rank, scale: '2', slots })
  }
  const written = writeSafetensors(tensors)
  const bytes = options.file?.(written) ?? written
  const file: FileRow = {
    path: 'adapter.safetensors',
    size: bytes.length,
    sha256: await sha256(bytes),
    role: 'canonical',
    mediaType: 'application/vnd.safetensors',
  }
  const files = new Map([[file.sha256, bytes]])
  const rows = await Promise.all(
    [...tensors].map(async ([tensor, { dtype, shape, data }]) => ({
      name: tensor,
      dtype,
      shape,
      sha256: await sha256(data),
    })),
  )
  const manifest = {
    schema: MANIFEST_SCHEMA,
    name,
    version,
    description: 'Answers questions about tables',
    license: 'Apache-2.0',
    keywords: ['sql'],
    base: base.identity,
    method: { family: options.kind === 'scale' ? 'ia3' : 'lora', flags: [] },
    operations,
    tensors: rows,
    files: [file],
    origin: null,
    crit: [],
    ...options.fields,
  } as Manifest
  let goldens: Goldens | null = null
  if (options.withGoldens) {
    const data = floats(16, seed + 2)
    const tensor = { dtype: 'F32', shape: [1, 16], data }
    const logits = writeSafetensors(
      new Map([
        ['base.0', tensor],
        ['adapted.0', tensor],
      ]),
    )
    const digest = await sha256(logits)
    files.set(digest, logits)
    goldens = {
      producer: 'peft@0.21.2',
      basePrecision: 'fp32',
      logits: { sha256: digest, size: logits.length },
      prompts: [{ tokenIds: [1, 2], positions: [1], greedy: { tokenIds: [3], margins: [0.5] } }],
    }
  }
  return { manifest, digest: await manifestDigest(manifest), files, goldens }
}

/** The signed request that publishes an adapter. */
export async function publishRequest(
  { manifest, digest, files, goldens }: Adapter,
  key: SigningKey,
  rest: Partial<PublishRequest> = {},
): Promise<PublishRequest> {
  const statement = goldens && goldensStatement(manifest.name, digest, goldens)
  return {
    envelope: await signEnvelope(manifestBytes(manifest), JWS_TYPES.manifest, [key]),
    attestations: statement
      ? [await signEnvelope(statementBytes(statement), JWS_TYPES.attestation, [key])]
      : [],
    visibility: 'public',
    blobs: [...files].map(([d, bytes]) => ({ digest: d, size: bytes.length })),
    ...rest,
  }
}

export interface Answer {
  status: number
  headers: Headers
  // biome-ignore lint/suspicious/noExplicitAny: tests look into bodies by name
  body: any
}

export type App = Awaited<ReturnType<typeof createNodeRegistry>>['app']

/** Speaks HTTP to the app, without a socket. */
export function httpClient(app: { request: App['request'] }) {
  return async (
    method: string,
    path: string,
    { token, json, body, headers = {} }: CallOptions = {},
  ): Promise<Answer> => {
    const response = await app.request(path, {
      method,
      headers: {
        ...(token ? { authorization: `Bearer ${token}` } : {}),
        ...(json === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(json === undefined ? {} : { body: JSON.stringify(json) }),
      ...(body === undefined ? {} : { body: body as Uint8Array<ArrayBuffer> }),
    })
    const isJson = response.headers.get('content-type')?.startsWith('application/json')
    const bytes = new Uint8Array(await response.arrayBuffer())
    return {
      status: response.status,
      headers: response.headers,
      body: isJson ? JSON.parse(new TextDecoder().decode(bytes)) : bytes,
    }
  }
}
export interface CallOptions {
  token?: string
  json?: unknown
  body?: Uint8Array
  headers?: Record<string, string>
}
export type Call = ReturnType<typeof httpClient>

/** POST, PUT every missing blob or its parts, complete; the answer of the first step that failed, or of the last. */
export async function publish(
  call: Call,
  token: string,
  what: Adapter,
  request: PublishRequest,
): Promise<Answer> {
  const started = await call('POST', '/v1/publish', { token, json: request })
  if (started.status !== 200) return started
  for (const { url, digest, parts } of (started.body as PublishAnswer).missing) {
    if (parts) {
      const failed = await sendParts(call, token, parts, what.files.get(digest)!)
      if (failed) return failed
      continue
    }
    const sent = await call('PUT', url, { token, body: what.files.get(digest)! })
    if (sent.status !== 200) return sent
  }
  return call('POST', `/v1/publish/${started.body.id}/complete`, { token })
}

/** @returns the answer of the first part that failed, or null */
async function sendParts(
  call: Call,
  token: string,
  url: string,
  bytes: Uint8Array,
): Promise<Answer | null> {
  const { partSize, missing } = (await call('GET', url, { token })).body as MissingParts
  for (const { number, size, url: to } of missing) {
    const begin = (number - 1) * partSize
    const sent = await call('PUT', to, { token, body: bytes.slice(begin, begin + size) })
    if (sent.status !== 200) return sent
  }
  return null
}

export interface House {
  call: Call
  /** Of ada, operator and owner of acme. */
  token: string
  key: SigningKey
  base: BaseRecord
  /** A user with an organisation of their own, a registered key and a token. */
  newcomer(user: string, org: string): Promise<{ token: string; key: SigningKey }>
  tokenWith(scopes: Scope[], expiresIn?: number): Promise<TokenAnswer>
}

/** A registry that is set up: administrator ada of acme with an active key, and a registered base. */
export async function furnish(app: { request: App['request'] }): Promise<House> {
  const call = httpClient(app)
  const setup = { code: SETUP_CODE, user: 'ada', org: 'acme' }
  const { token } = (await call('POST', '/v1/setup', { json: setup })).body as TokenAnswer
  const key = await generateSigningKey()
  const base = await tinyBase()
  await call('POST', '/v1/orgs/acme/keys', { token, json: { jwk: key.publicJwk } })
  await call('POST', '/v1/bases', { token, json: base })
  return {
    call,
    token,
    key,
    base,
    async newcomer(user, org) {
      const answer = await call('POST', '/v1/users', { token, json: { user, org } })
      const own = await generateSigningKey('ES256')
      const theirs = answer.body.token as string
      const json = { jwk: own.publicJwk }
      await call('POST', `/v1/orgs/${org}/keys`, { token: theirs, json })
      return { token: theirs, key: own }
    },
    async tokenWith(scopes, expiresIn = 3600) {
      const json = { org: 'acme', name: 'test', scopes, expiresIn }
      return (await call('POST', '/v1/tokens', { token, json })).body
    },
  }
}

/** A registry on disk that nobody has set up, in a folder of its own. */
export async function openRegistry(options: Partial<NodeRegistryOptions> = {}) {
  const folder = temporaryFolder()
  const stateDir = folder.path
  const registry = await createNodeRegistry({
    stateDir,
    issuerName: ISSUER,
    setupCode: SETUP_CODE,
    ...options,
  })
  return {
    app: registry.app,
    registry,
    stateDir,
    async close() {
      await registry.close()
      folder.clean()
    },
  }
}

/** The same, furnished. */
export async function openHouse(options: Partial<NodeRegistryOptions> = {}) {
  const { app, ...house } = await openRegistry(options)
  return { ...(await furnish(app)), ...house }
}
