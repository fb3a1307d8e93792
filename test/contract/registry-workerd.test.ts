import { afterAll, beforeAll, describe, expect, it } from 'vitest'
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

const open = () => openWorkerd(SETUP_CODE, ISSUER)

blobStoreContract('R2 in workerd', open)
catalogueContract('D1 in workerd', open)

describe('the registry in workerd', () => {
  let worker: Awaited<ReturnType<typeof open>>
  beforeAll(async () => {
    worker = await open()
  })
  afterAll(() => worker.close())

  it('publishes, resolves and serves an adapter over D1 and R2', async () => {
    const { call, token, key, base } = await furnish(worker.app as never)
    const sql = await adapter({ base, withGoldens: true })
    const published = await publish(call, token, sql, await publishRequest(sql, key))
    expect(published.body).toMatchObject({ state: 'published', digest: sql.digest })
    const resolved = await call('GET', '/v1/resolve?ref=@acme/sql@^1')
    expect(resolved.body).toMatchObject({ version: '1.0.0', digest: sql.digest })
    const [digest, bytes] = [...sql.files][0]!
    const blob = await call('GET', `/v1/blobs/${digest}`, { headers: { range: 'bytes=8-99' } })
    expect(blob.status).toBe(206)
    expect(blob.body).toEqual(bytes.subarray(8, 100))
    const taken = await adapter({ base, seed: 99 })
    expect(
      (await publish(call, token, taken, await publishRequest(taken, key))).body.error,
    ).toMatchObject({
      code: 'ERR_VERSION_EXISTS',
    })
  })
})
