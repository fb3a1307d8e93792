import { sha256 } from '@graft/sdk/format/digest.ts'
import { verifyEnvelope } from '@graft/sdk/format/jws.ts'
import { JWS_TYPES } from '@graft/sdk/format/manifest.ts'
import { parseManifest } from '@graft/sdk/format/parse-manifest.ts'
import { parseStatement } from '@graft/sdk/format/statements.ts'
import { verifyAdapter } from '@graft/sdk/format/verify-adapter.ts'
import type { Resolution, VersionRecord } from '@graft/sdk/protocol/registry-api.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Adapter, adapter, openHouse, publish, publishRequest } from './fixtures.ts'

let house: Awaited<ReturnType<typeof openHouse>>
let sql: Adapter

beforeAll(async () => {
  house = await openHouse()
  sql = await adapter({ base: house.base, withGoldens: true })
})
afterAll(() => house.close())

describe('the way of an adapter through the registry', () => {
  it('publishes, resolves and gives back the bytes that were signed', async () => {
    const { call, token, key, base } = house
    const published = await publish(call, token, sql, await publishRequest(sql, key))
    expect(published.body).toMatchObject({
      state: 'published',
      missing: [],
      digest: sql.digest,
      name: '@acme/sql',
      version: '1.0.0',
    })
    expect(published.status).toBe(200)

    const resolved = await call('GET', '/v1/resolve?ref=@acme/sql@^1')
    expect(resolved.body).toEqual({
      ref: '@acme/sql@^1',
      name: '@acme/sql',
      version: '1.0.0',
      digest: sql.digest,
      base: { name: 'tiny-base', digest: base.digest },
      operations: ['low_rank'],
      size: sql.manifest.files[0]!.size,
      visibility: 'public',
      skipped: [],
    } satisfies Resolution)

    const record: VersionRecord = (await call('GET', `/v1/manifests/${sql.digest}`)).body
    const keys = record.keys.map((k) => k.jwk)
    expect(record.keys).toMatchObject([{ kid: key.kid, status: 'active' }])
    const { payload, kids } = await verifyEnvelope(record.envelope, JWS_TYPES.manifest, keys)
    expect(kids).toEqual([key.kid])
    expect(await sha256(payload)).toBe(sql.digest)
    const manifest = parseManifest(payload)
    expect(manifest).toEqual(sql.manifest)

    const file = manifest.files[0]!
    const blob = await call('GET', `/v1/blobs/${file.sha256}`)
    expect(blob.headers.get('content-length')).toBe(String(file.size))
    await verifyAdapter(manifest, blob.body, base.tensors)

    const attested = await verifyEnvelope(record.attestations[0]!, JWS_TYPES.attestation, keys)
    const statement = parseStatement(attested.payload)
    expect(statement.predicate).toEqual(sql.goldens)
    const logits = await call('GET', `/v1/blobs/${sql.goldens!.logits.sha256}`)
    expect(await sha256(logits.body)).toBe(sql.goldens!.logits.sha256)
  })

  it('answers a repeated publish of the same bytes as published, with nothing to send', async () => {
    const { call, token, key } = house
    const again = await call('POST', '/v1/publish', { token, json: await publishRequest(sql, key) })
    expect(again.body).toMatchObject({ state: 'published', missing: [], digest: sql.digest })
  })

  it('lists the package, its tags and its versions', async () => {
    const { call, base } = house
    expect((await call('GET', '/v1/packages?q=tables')).body.packages).toEqual([
      {
        name: '@acme/sql',
        description: 'Answers questions about tables',
        visibility: 'public',
        latest: '1.0.0',
        base: { name: 'tiny-base', digest: base.digest },
      },
    ])
    const record = (await call('GET', '/v1/packages/@acme/sql')).body
    expect(record).toMatchObject({
      name: '@acme/sql',
      tags: { latest: '1.0.0' },
      versions: [
        { version: '1.0.0', digest: sql.digest, operations: ['low_rank'], family: 'lora' },
      ],
    })
    expect((await call('GET', '/v1/packages?q=%25')).body.packages).toEqual([])
  })
})
