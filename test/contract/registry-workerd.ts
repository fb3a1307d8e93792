import { join } from 'node:path'
import { nodeHash } from '@graft/registry/node/node-hash.ts'
import { readMigrations } from '@graft/registry/node/sqlite-catalogue.ts'
import type { BlobStore, Bytes } from '@graft/registry/stores/blob-store.ts'
import type { Catalogue } from '@graft/registry/stores/catalogue.ts'
import { type ErrorBody, GraftError } from '@graft/sdk/format/errors.ts'
import { exportSigningKey, generateSigningKey } from '@graft/sdk/format/jws.ts'
import { convertV4MiniflareOptions, Miniflare } from 'miniflare'
import { bundleWorker } from '../bundle-worker.ts'
import { freePort } from './free-port.ts'

const S3_CREDENTIALS = { accessKeyId: 'test', secretAccessKey: 'test-secret' }
const S3_PATH = '/cdn-cgi/local/r2/s3'
const BUCKET = 'registry-blobs'
const root = join(import.meta.dirname, '../..')

/**
 * The registry in workerd with an empty D1 and R2 in memory, migrated; and its stores, called through it. With `direct` it
 * is told of R2's S3 API, as in production, and points clients at it.
 */
export async function openWorkerd(
  setupCode: string,
  issuerName: string,
  vars: object = {},
  direct = false,
) {
  const port = direct ? await freePort() : 0
  const bundle = await bundleWorker('test/workers/registry-worker.ts')
  const miniflare = new Miniflare(
    convertV4MiniflareOptions({
      modules: [{ type: 'ESModule', path: 'worker.mjs', contents: bundle }],
      compatibilityDate: '2026-08-04',
      d1Databases: { DB: 'registry' },
      r2Buckets: { BLOBS: { id: BUCKET, s3Credentials: S3_CREDENTIALS } },
      d1Persist: false,
      r2Persist: false,
      bindings: {
        ISSUER_KEY: JSON.stringify(await exportSigningKey(await generateSigningKey())),
        ISSUER_NAME: issuerName,
        LOG_KEY: JSON.stringify(await exportSigningKey(await generateSigningKey())),
        SETUP_CODE: setupCode,
        ...(direct
          ? {
              S3_ENDPOINT: `http://127.0.0.1:${port}${S3_PATH}`,
              S3_BUCKET: BUCKET,
              S3_ACCESS_KEY_ID: S3_CREDENTIALS.accessKeyId,
              S3_SECRET_ACCESS_KEY: S3_CREDENTIALS.secretAccessKey,
            }
          : {}),
        ...vars,
      },
      port,
    }),
  )
  const address = await miniflare.ready
  const url = 'http://registry.test'
  const request = (path: string, init?: RequestInit): Promise<Response> =>
    miniflare.dispatchFetch(`${url}${path}`, init as never) as never

  async function send(call: unknown[], body?: Bytes): Promise<Response> {
    const init = { method: 'POST', headers: { 'x-call': encodeURIComponent(JSON.stringify(call)) } }
    const response = await request(
      '/store',
      body ? ({ ...init, body, duplex: 'half' } as never) : init,
    )
    if (response.ok) return response
    const { error } = (await response.json()) as ErrorBody
    throw new GraftError(error.code, error.message)
  }
  const json = async <T>(...call: unknown[]) => (await (await send(call)).json()) as T
  const stream = async (...call: unknown[]): Promise<Bytes | null> => {
    const response = await send(call)
    // An empty blob's answer may come without a body.
    return response.status === 204 ? null : (response.body ?? new Response('').body)
  }
  const blobs: BlobStore = {
    async stage(upload, digest, size, body) {
      await send(['stage', upload, digest, size], body)
    },
    getStaged: (upload, digest, range) => stream('getStaged', upload, digest, range ?? null),
    async putPart(upload, digest, number, size, body) {
      await send(['putPart', upload, digest, number, size], body)
    },
    listParts: (upload, digest) => json('listParts', upload, digest),
    joinParts: (upload, digest, size, count) => json('joinParts', upload, digest, size, count),
    listStaging: () => json('listStaging'),
    createHash: nodeHash,
    promote: (upload, digest) => json('promote', upload, digest),
    discard: (upload) => json('discard', upload),
    get: (digest, range) => stream('get', digest, range ?? null),
    head: (digest) => json('head', digest),
    delete: (digest) => json('delete', digest),
  }
  const catalogue: Catalogue = {
    query: (text, params = []) => json('query', text, params),
    batch: (statements) => json('batch', statements),
  }
  const statements = readMigrations(join(root, 'infra/migrations/registry')).flatMap(({ sql }) =>
    sql
      .replace(/--.*$/gm, '')
      .split(';')
      .map((text) => text.trim()),
  )
  await catalogue.batch(statements.filter(Boolean).map((text) => ({ sql: text, params: [] })))
  const s3 = {
    bucket: BUCKET,
    config: {
      endpoint: new URL(S3_PATH, address).href,
      region: 'auto',
      forcePathStyle: true,
      credentials: S3_CREDENTIALS,
    },
  }
  return { app: { request }, blobs, catalogue, s3, close: () => miniflare.dispose() }
}
