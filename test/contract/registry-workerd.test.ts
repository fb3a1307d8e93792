import { createS3Blobs } from '@graft/registry/node/s3-blobs.ts'
import { afterAll, describe, expect, it } from 'vitest'
import {
  adapter,
  furnish,
  ISSUER,
  publish,
  publishRequest,
  SETUP_CODE,
} from '../registry/fixtures.ts'
import { blobStoreContract, catalogueContract } from './registry-stores.ts'
import { openWorkerd } from './registry-workerd.ts'

// One workerd for all: the suites touch different stores, and the registry starts with what the catalogue's suite left.
const opening = openWorkerd(SETUP_CODE, ISSUER)
afterAll(async () => (await opening).close())
const kept = async () => {}

blobStoreContract('R2 in workerd', async () => ({ ...(await opening), close: kept }))
catalogueContract('D1 in workerd', async () => ({ ...(await opening), close: kept }))
blobStoreContract('S3, spoken to the local R2', async () => {
  const { s3 } = await opening
  const blobs = createS3Blobs(s3.bucket, s3.config)
  return { blobs, close: async () => blobs[Symbol.asyncDispose]() }
})

describe('the registry in workerd', () => {
  it('publishes, resolves and serves an adapter over D1 and R2', async () => {
    const { call, token, key, base } = await furnish((await opening).app as never)
    const sql = await adapter({ base, withGoldens: true })
    const published = await publish(call, token, sql, await publishRequest(sql, key))
    expect(published.body).toMatchObject({ state: 'published', digest: sql.digest })
    const resolved = await call('GET', '/v1/resolve?ref=@acme/sql@^1')
    expect(resolved.body).toMatchObject({ version: '1.0.0', digest: sql.digest })
    const [digest, bytes] = [...sql.files][0]!
    const blob = await call('GET', `/v1/blobs/${digest}`, { headers: { range: 'bytes=8-99' } })
    expect(blob.status).toBe(206)
    expect(blob.body).toEqual(bytes.subarray(8, 100))
    const page = await call('GET', '/@acme/sql')
    expect(page.headers.get('content-security-policy')).toContain("default-src 'none'")
    expect(new TextDecoder().decode(page.body)).toContain(`<code>${sql.digest}</code>`)
    expect((await call('GET', '/search?q=tables&sort=name')).status).toBe(200)
    const found = new TextDecoder().decode((await call('GET', `/bases/${base.digest}`)).body)
    expect(found).toContain('href="/@acme/sql"')
    const taken = await adapter({ base, seed: 99 })
    expect(
      (await publish(call, token, taken, await publishRequest(taken, key))).body.error,
    ).toMatchObject({
      code: 'ERR_VERSION_EXISTS',
    })
  })
})
