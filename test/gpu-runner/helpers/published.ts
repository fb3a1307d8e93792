import { type BaseDescription, describeBase } from '@graft/sdk/format/base-identity.ts'
import { type Digest, sha256 } from '@graft/sdk/format/digest.ts'
import { generateSigningKey, type SigningKey, signEnvelope } from '@graft/sdk/format/jws.ts'
import { type Goldens, MANIFEST_SCHEMA, type Manifest } from '@graft/sdk/format/manifest.ts'
import { manifestBytes } from '@graft/sdk/format/parse-manifest.ts'
import { writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import { goldensStatement, statementBytes } from '@graft/sdk/format/statements.ts'
import type { VersionRecord } from '@graft/sdk/protocol/registry-api.ts'
import { nextToken, VOCAB } from './scripted-engine.ts'

const f32 = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer)
const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))
const SITE = 'model.layers.0.self_attn.q_proj'

/** A base of one linear layer, enough for sites to be held against. */
export const describeTestBase = (): Promise<BaseDescription> => {
  const weight = { dtype: 'F32', shape: [4, 4], data: new Uint8Array(64) }
  const header = writeSafetensors(new Map([[`${SITE}.weight`, weight]]))
  return sha256(header).then((digest) =>
    describeBase({
      name: 'scripted',
      configJson: json({ architectures: ['LlamaForCausalLM'], model_type: 'llama' }),
      tokenizerJson: null,
      files: [{ path: 'model.safetensors', size: header.length, sha256: digest, header }],
    }),
  )
}

export interface Published {
  digest: Digest
  manifest: Manifest
  record: VersionRecord
  blobs: Map<Digest, Uint8Array>
  file: Digest
}

export interface PublishOptions {
  base: BaseDescription
  /** What the adapter does to the scripted engine: see nextToken. */
  shift: number
  name?: string
  /** Shift that the goldens were made with; null = no goldens. @default the adapter's own */
  goldenShift?: number | null
  key?: SigningKey
}

/** Logits of the scripted engine after each of `tokenIds`. [positions x vocab] */
export function scriptedLogits(tokenIds: number[], positions: number[], shift: number): Uint8Array {
  const out = new Float32Array(positions.length * VOCAB)
  for (const [i, at] of positions.entries())
    out[i * VOCAB + nextToken(tokenIds[at]!, at, shift)] = 10
  return new Uint8Array(out.buffer)
}

const PROMPT = [5, 6, 7, 8]
const POSITIONS = [0, 3]

async function makeGoldens(shift: number): Promise<{ goldens: Goldens; blob: Uint8Array }> {
  const tensor = (s: number) => ({
    dtype: 'F32',
    shape: [POSITIONS.length, VOCAB],
    data: scriptedLogits(PROMPT, POSITIONS, s),
  })
  const blob = writeSafetensors(
    new Map([
      ['base.0', tensor(0)],
      ['adapted.0', tensor(shift)],
    ]),
  )
  const goldens: Goldens = {
    producer: 'scripted@1',
    basePrecision: 'fp32',
    logits: { sha256: await sha256(blob), size: blob.length },
    prompts: [{ tokenIds: PROMPT, positions: POSITIONS, greedy: { tokenIds: [], margins: [] } }],
  }
  return { goldens, blob }
}

/** A signed version of one low-rank operation, and the blobs that a registry would hold. */
export async function publish(options: PublishOptions): Promise<Published> {
  const { base, shift, name = '@acme/shift', goldenShift = shift } = options
  const a = { dtype: 'F32', shape: [1, 4], data: f32(shift, 0, 0, 0) }
  const b = { dtype: 'F32', shape: [4, 1], data: f32(1, 1, 1, 1) }
  const file = writeSafetensors(
    new Map([
      ['a', a],
      ['b', b],
    ]),
  )
  const fileDigest = await sha256(file)
  const rows = await Promise.all(
    Object.entries({ a, b }).map(async ([tensor, { dtype, shape, data }]) => {
      return { name: tensor, dtype, shape, sha256: await sha256(data) }
    }),
  )
  const manifest: Manifest = {
    schema: MANIFEST_SCHEMA,
    name,
    version: '1.0.0',
    base: base.identity,
    method: { family: 'lora', flags: [] },
    operations: [
      {
        op: 'low_rank',
        site: SITE,
        in: 4,
        out: 4,
        rank: 1,
        scale: '1',
        slots: { A: 'a', B: 'b' },
      },
    ],
    tensors: rows,
    files: [
      {
        path: 'adapter.safetensors',
        size: file.length,
        sha256: fileDigest,
        role: 'canonical',
        mediaType: 'application/octet-stream',
      },
    ],
    origin: null,
    crit: [],
  }
  const goldens = goldenShift === null ? null : await makeGoldens(goldenShift)
  return signVersion({ manifest, file, goldens, ...(options.key ? { key: options.key } : {}) })
}

/** A version as its author signs it, and the blobs that a registry would hold. */
export async function signVersion(version: {
  manifest: Manifest
  file: Uint8Array
  goldens: { goldens: Goldens; blob: Uint8Array } | null
  key?: SigningKey
}): Promise<Published> {
  const { manifest, file, goldens } = version
  const key = version.key ?? (await generateSigningKey())
  const bytes = manifestBytes(manifest)
  const [digest, fileDigest] = [await sha256(bytes), await sha256(file)]
  const blobs = new Map<Digest, Uint8Array>([[fileDigest, file]])
  const attestations = []
  if (goldens !== null) {
    blobs.set(goldens.goldens.logits.sha256, goldens.blob)
    const statement = statementBytes(goldensStatement(manifest.name, digest, goldens.goldens))
    attestations.push(await signEnvelope(statement, 'graft-attestation+jws', [key]))
  }
  const createdAt = '2026-01-01T00:00:00.000Z'
  const record: VersionRecord = {
    digest,
    envelope: await signEnvelope(bytes, 'graft-manifest+jws', [key]),
    attestations,
    keys: [{ kid: key.kid, jwk: key.publicJwk, status: 'active', createdAt }],
    publishedAt: createdAt,
  }
  return { digest, manifest, record, blobs, file: fileDigest }
}

export interface TestRegistry {
  url: string
  fetch: typeof fetch
  /** Paths asked for, in order. */
  asked: string[]
  /** Paths that wait until the promise resolves. */
  hold: Map<string, Promise<void>>
  /** Capability that a manifest needs; others get 403. */
  rights: Map<Digest, string>
  add(published: Published): void
  /** Bytes sent instead of a blob's. */
  replace(blob: Digest, bytes: Uint8Array): void
}

/** The registry's two pull routes over a table in memory. */
export function createTestRegistry(): TestRegistry {
  const records = new Map<string, VersionRecord>()
  const blobs = new Map<string, Uint8Array>()
  const registry: TestRegistry = {
    url: 'http://registry.test',
    asked: [],
    hold: new Map(),
    rights: new Map(),
    add(published) {
      records.set(published.digest, published.record)
      for (const [digest, bytes] of published.blobs) blobs.set(digest, bytes)
    },
    replace: (blob, bytes) => blobs.set(blob, bytes),
    fetch: (async (input: URL, init?: RequestInit) => {
      const { pathname } = new URL(input)
      registry.asked.push(pathname)
      const held = registry.hold.get(pathname)
      if (held) {
        const aborted = new Promise<never>((_, reject) => {
          init?.signal?.addEventListener('abort', () => reject(init.signal?.reason))
        })
        aborted.catch(() => {})
        await Promise.race([held, aborted])
      }
      const digest = pathname.split('/').at(-1)! as Digest
      const right = registry.rights.get(digest)
      const sent = new Headers(init?.headers).get('authorization')
      if (right !== undefined && sent !== `Bearer ${right}`)
        return Response.json(
          { error: { code: 'ERR_FORBIDDEN', message: 'no right' } },
          { status: 403 },
        )
      if (pathname.startsWith('/v1/manifests/') && records.has(digest))
        return Response.json(records.get(digest))
      if (pathname.startsWith('/v1/blobs/') && blobs.has(digest))
        return new Response(blobs.get(digest) as Uint8Array<ArrayBuffer>)
      const code = pathname.startsWith('/v1/blobs/') ? 'ERR_BLOB_UNKNOWN' : 'ERR_VERSION_UNKNOWN'
      return Response.json({ error: { code, message: 'not here' } }, { status: 404 })
    }) as typeof fetch,
  }
  return registry
}
