import { generateSigningKey, signEnvelope } from '@graft/sdk/format/jws.ts'
import { type Goldens, JWS_TYPES, type Manifest } from '@graft/sdk/format/manifest.ts'
import { manifestBytes } from '@graft/sdk/format/parse-manifest.ts'
import { goldensStatement, statementBytes } from '@graft/sdk/format/statements.ts'
import type { BaseRecord, PublishRequest } from '@graft/sdk/protocol/registry-api.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  type Adapter,
  type AdapterOptions,
  adapter,
  floats,
  openHouse,
  publish,
  publishRequest,
  tinyBase,
} from './fixtures.ts'

let house: Awaited<ReturnType<typeof openHouse>>
beforeAll(async () => {
  house = await openHouse()
})
afterAll(() => house.close())

let packages = 0
/** An adapter of a package and with weights of its own, so that no test stands in another's way. */
const fresh = (options: Partial<AdapterOptions> = {}): Promise<Adapter> =>
  adapter({ name: `@acme/p${packages++}`, seed: 100 + 10 * packages, base: house.base, ...options })

const attempt = async (what: Adapter, rest: Partial<PublishRequest> = {}) =>
  publish(house.call, house.token, what, await publishRequest(what, house.key, rest))

/** Nobody sees anything of it: no package, no manifest, no blob. */
async function expectInvisible(what: Adapter): Promise<void> {
  const { call, token } = house
  const paths = [
    `/v1/packages/${what.manifest.name}`,
    `/v1/manifests/${what.digest}`,
    ...[...what.files.keys()].map((digest) => `/v1/blobs/${digest}`),
  ]
  for (const path of paths) expect((await call('GET', path, { token })).status, path).toBe(404)
}

describe('publish refuses', () => {
  it('a blob whose bytes are not the signed ones, and takes the right ones afterwards', async () => {
    const { call, token, key } = house
    const what = await fresh()
    const started = await call('POST', '/v1/publish', {
      token,
      json: await publishRequest(what, key),
    })
    const { url, digest } = started.body.missing[0]
    const bytes = what.files.get(digest)!
    const other = Uint8Array.from(bytes, (byte, i) => (i === bytes.length - 1 ? byte ^ 1 : byte))
    for (const body of [other, bytes.subarray(0, -4), new Uint8Array([...bytes, 0])]) {
      const sent = await call('PUT', url, { token, body })
      expect(sent.status).toBe(422)
      expect(sent.body.error.code).toBe('ERR_DIGEST_MISMATCH')
    }
    const early = await call('POST', `/v1/publish/${started.body.id}/complete`, { token })
    expect(early.body.error).toMatchObject({ code: 'ERR_PUBLISH_STATE' })
    expect(early.body.error.message).toContain(digest)
    await expectInvisible(what)
    expect((await call('PUT', url, { token, body: bytes })).status).toBe(200)
    expect((await call('PUT', url, { token, body: bytes })).status).toBe(200)
    const done = await call('POST', `/v1/publish/${started.body.id}/complete`, { token })
    expect(done.body.state).toBe('published')
  })

  it('a truncated safetensors file that is signed as it is', async () => {
    const what = await fresh({ file: (bytes) => bytes.subarray(0, bytes.length - 16) })
    const answer = await attempt(what)
    expect(answer.status).toBe(422)
    expect(answer.body.error.code).toBe('ERR_SAFETENSORS_INVALID')
    await expectInvisible(what)
  })

  it('non-finite weights, naming the tensor', async () => {
    const A = floats(16, 3)
    new DataView(A.buffer).setFloat32(20, Number.NaN, true)
    const answer = await attempt(await fresh({ weights: { A } }))
    expect(answer.body.error.code).toBe('ERR_WEIGHTS_NON_FINITE')
    expect(answer.body.error.message).toContain('q_proj::A: element 5')
  })

  it('an adapter that changes nothing', async () => {
    const answer = await attempt(await fresh({ weights: { B: new Uint8Array(64) } }))
    expect(answer.body.error.code).toBe('ERR_ZERO_EFFECT')
  })

  it('weights that are not the ones in the tensor table', async () => {
    const file = (bytes: Uint8Array) =>
      Uint8Array.from(bytes, (byte, i) => (i === bytes.length - 1 ? byte ^ 1 : byte))
    const answer = await attempt(await fresh({ file }))
    expect(answer.body.error.code).toBe('ERR_DIGEST_MISMATCH')
    expect(answer.body.error.message).toMatch(/^tensor model\.layers\.0\.self_attn\.q_proj::/)
  })

  it('a manifest that demands an unknown field be understood', async () => {
    const what = await fresh({ fields: { crit: ['quantum'], quantum: true } })
    const answer = await attempt(what)
    expect(answer.body.error.code).toBe('ERR_CRITICAL_UNKNOWN')
  })

  it('a rank that the tensors do not have', async () => {
    const what = await fresh()
    const operations = [{ ...what.manifest.operations[0]!, rank: 3 }]
    const answer = await attempt({
      ...what,
      manifest: { ...what.manifest, operations } as Manifest,
    })
    expect(answer.body.error.code).toBe('ERR_TENSOR_SHAPE')
  })

  it('a site that the base does not have', async () => {
    const what = await fresh()
    const site = 'model.layers.7.self_attn.q_proj'
    const operations = [{ ...what.manifest.operations[0]!, site }]
    const answer = await attempt({
      ...what,
      manifest: { ...what.manifest, operations } as Manifest,
    })
    expect(answer.body.error.code).toBe('ERR_TENSOR_UNMATCHED')
    expect(answer.body.error.message).toContain(site)
  })

  it('an adapter of a base that is not registered, naming the base', async () => {
    const stranger = await tinyBase('stranger', 50)
    const answer = await attempt(await fresh({ base: stranger }))
    expect(answer.status).toBe(404)
    expect(answer.body.error.code).toBe('ERR_BASE_UNKNOWN')
    expect(answer.body.error.message).toContain(stranger.digest)
  })

  it('a manifest whose payload is not canonical', async () => {
    const what = await fresh()
    const text = JSON.stringify(what.manifest, null, 1)
    const request = await publishRequest(what, house.key)
    request.envelope = await signEnvelope(new TextEncoder().encode(text), JWS_TYPES.manifest, [
      house.key,
    ])
    const answer = await house.call('POST', '/v1/publish', { token: house.token, json: request })
    expect(answer.body.error).toMatchObject({ code: 'ERR_MANIFEST_INVALID' })
    expect(answer.body.error.message).toContain('canonical')
  })

  it('a signature that does not fit, one of an unknown key, and one made for another purpose', async () => {
    const { call, token, key } = house
    const [what, other] = [await fresh(), await fresh({ seed: 20 })]
    const send = async (envelope: PublishRequest['envelope']) => {
      const json = { ...(await publishRequest(what, key)), envelope }
      return (await call('POST', '/v1/publish', { token, json })).body.error.code
    }
    const bytes = manifestBytes(what.manifest)
    const good = await signEnvelope(bytes, JWS_TYPES.manifest, [key])
    const swapped = await signEnvelope(manifestBytes(other.manifest), JWS_TYPES.manifest, [key])
    expect(await send({ ...good, signatures: swapped.signatures })).toBe('ERR_SIGNATURE_INVALID')
    const strange = await signEnvelope(bytes, JWS_TYPES.manifest, [await generateSigningKey()])
    expect(await send(strange)).toBe('ERR_KEY_UNKNOWN')
    const both = { ...good, signatures: [...good.signatures, ...strange.signatures] }
    expect(await send(both)).toBe('ERR_KEY_UNKNOWN')
    const purpose = await signEnvelope(bytes, JWS_TYPES.attestation, [key])
    expect(await send(purpose)).toBe('ERR_SIGNATURE_INVALID')
  })

  it('goldens whose logits are not there for every prompt, or of another shape', async () => {
    const { call, token, key } = house
    const what = await fresh({ withGoldens: true })
    const prompt = what.goldens!.prompts[0]!
    const cases: [Goldens['prompts'], string][] = [
      [[prompt, prompt], 'ERR_TENSOR_MISSING'],
      [[{ ...prompt, positions: [0, 1] }], 'ERR_TENSOR_SHAPE'],
    ]
    for (const [prompts, code] of cases) {
      const goldens = { ...what.goldens!, prompts }
      const json = await publishRequest({ ...what, goldens }, key)
      expect((await publish(call, token, what, json)).body.error.code).toBe(code)
    }
    await expectInvisible(what)
  })

  it('goldens of another manifest', async () => {
    const { call, token, key } = house
    const what = await fresh({ withGoldens: true })
    const other = await fresh()
    const statement = goldensStatement(what.manifest.name, other.digest, what.goldens!)
    const attestations = [
      await signEnvelope(statementBytes(statement), JWS_TYPES.attestation, [key]),
    ]
    const json = await publishRequest(what, key, { attestations })
    const answer = await call('POST', '/v1/publish', { token, json })
    expect(answer.body.error).toMatchObject({ code: 'ERR_DIGEST_MISMATCH' })
  })

  it('blobs that nothing signed names, and signed ones that were left out', async () => {
    const { call, token, key } = house
    const what = await fresh()
    const { blobs } = await publishRequest(what, key)
    const extra = { digest: what.digest, size: 5 }
    for (const declared of [[], [...blobs, extra], [{ ...blobs[0]!, size: 1 }]]) {
      const json = await publishRequest(what, key, { blobs: declared })
      const answer = await call('POST', '/v1/publish', { token, json })
      expect(answer.body.error.code).toBe('ERR_REQUEST_INVALID')
    }
  })

  it('a version that is taken, also when only build metadata differs', async () => {
    const first = await fresh({ name: '@acme/taken' })
    expect((await attempt(first)).body.state).toBe('published')
    for (const version of ['1.0.0', '1.0.0+rebuilt']) {
      const second = await fresh({ name: '@acme/taken', version, seed: 30 })
      const answer = await attempt(second)
      expect(answer.status).toBe(409)
      expect(answer.body.error.code).toBe('ERR_VERSION_EXISTS')
    }
    const resolved = await house.call('GET', '/v1/resolve?ref=@acme/taken')
    expect(resolved.body.digest).toBe(first.digest)
  })

  it('the slower of two that publish one version at once, and shows only the faster', async () => {
    const { call, token, key } = house
    const both = await Promise.all([40, 41].map((seed) => fresh({ name: '@acme/race', seed })))
    const ids = await Promise.all(
      both.map(async (what) => {
        const json = await publishRequest(what, key)
        const started = (await call('POST', '/v1/publish', { token, json })).body
        for (const { url, digest } of started.missing)
          await call('PUT', url, { token, body: what.files.get(digest)! })
        return started.id as string
      }),
    )
    const done = await Promise.all(
      ids.map((id) => call('POST', `/v1/publish/${id}/complete`, { token })),
    )
    const winner = done.findIndex((answer) => answer.status === 200)
    expect(done[winner]!.body.state).toBe('published')
    expect(done[1 - winner]!.body.error.code).toBe('ERR_VERSION_EXISTS')
    const record = (await call('GET', '/v1/packages/@acme/race')).body
    expect(record.versions.map((v: { digest: string }) => v.digest)).toEqual([both[winner]!.digest])
    const again = await call('POST', `/v1/publish/${ids[1 - winner]}/complete`, { token })
    expect(again.body.error.code).toBe('ERR_VERSION_EXISTS')
  })

  it('nothing of two that complete one upload at once: both hear that it is published', async () => {
    const { call, token, key } = house
    const what = await fresh()
    const json = await publishRequest(what, key)
    const { id, missing } = (await call('POST', '/v1/publish', { token, json })).body
    for (const { url, digest } of missing)
      await call('PUT', url, { token, body: what.files.get(digest)! })
    const complete = () => call('POST', `/v1/publish/${id}/complete`, { token })
    const answers = await Promise.all([complete(), complete(), complete()])
    expect(answers.map((answer) => answer.body.state)).toEqual(Array(3).fill('published'))
  })

  it("another organisation's name, and a token without the scope", async () => {
    const { call, token, key } = house
    const other = await house.newcomer('eve', 'evil')
    const theirs = await adapter({ name: '@evil/sql', base: house.base })
    const taken = await publish(call, token, theirs, await publishRequest(theirs, key))
    expect(taken.status).toBe(403)
    expect(taken.body.error.code).toBe('ERR_FORBIDDEN')
    const ours = await fresh()
    const stolen = await publish(call, other.token, ours, await publishRequest(ours, other.key))
    expect(stolen.body.error.code).toBe('ERR_FORBIDDEN')
    const reader = await house.tokenWith(['infer', 'read'])
    const weak = await publish(call, reader.token, ours, await publishRequest(ours, key))
    expect(weak.body.error.code).toBe('ERR_FORBIDDEN')
    await expectInvisible(ours)
    // A key counts for its own organisation only.
    const foreign = await publish(call, token, ours, await publishRequest(ours, other.key))
    expect(foreign.body.error.code).toBe('ERR_KEY_UNKNOWN')
  })

  it('signatures of a revoked key, also when it was revoked after the upload began', async () => {
    const { call, token } = house
    const key = await generateSigningKey('ES256')
    const register = (status: string) =>
      call('POST', '/v1/orgs/acme/keys', { token, json: { jwk: key.publicJwk, status } })
    expect((await register('active')).body).toMatchObject({ kid: key.kid, status: 'active' })
    const before = await fresh()
    await publish(call, token, before, await publishRequest(before, key))
    const what = await fresh()
    const json = await publishRequest(what, key)
    const started = await call('POST', '/v1/publish', { token, json })
    const { url, digest } = started.body.missing[0]
    await call('PUT', url, { token, body: what.files.get(digest)! })
    expect((await register('revoked')).body).toMatchObject({ kid: key.kid, status: 'revoked' })
    const answer = await call('POST', `/v1/publish/${started.body.id}/complete`, { token })
    expect(answer.status).toBe(403)
    expect(answer.body.error.code).toBe('ERR_KEY_REVOKED')
    const late = await call('POST', '/v1/publish', { token, json })
    expect(late.body.error.code).toBe('ERR_KEY_REVOKED')
    await expectInvisible(what)
    // What it signed before stays readable, and says what became of the key.
    const record = (await call('GET', `/v1/manifests/${before.digest}`)).body
    expect(record.keys).toMatchObject([{ kid: key.kid, status: 'revoked' }])
    expect((await register('active')).body.error.code).toBe('ERR_KEY_REVOKED')
  })

  it('a change of visibility by a later version', async () => {
    await attempt(await fresh({ name: '@acme/hidden' }), { visibility: 'private' })
    const second = await fresh({ name: '@acme/hidden', version: '1.0.1', seed: 31 })
    const answer = await attempt(second, { visibility: 'public' })
    expect(answer.body.error).toMatchObject({ code: 'ERR_REQUEST_INVALID' })
    expect(answer.body.error.message).toContain('private')
  })

  it('a base whose tensors or digest are not what its identity says', async () => {
    const { call, token } = house
    const base: BaseRecord = await tinyBase('forged', 60)
    const wider = base.tensors.map((t) => ({ ...t, shape: t.shape.map((n) => n * 2) }))
    const retyped = base.tensors.map((t) => ({ ...t, dtype: 'F16' }))
    for (const json of [
      { ...base, tensors: wider },
      { ...base, tensors: retyped },
      { ...base, digest: house.base.digest },
    ])
      expect((await call('POST', '/v1/bases', { token, json })).body.error.code).toBe(
        'ERR_DIGEST_MISMATCH',
      )
    expect((await call('GET', '/v1/bases?name=forged')).body.bases).toEqual([])
    for (let i = 0; i < 2; i++)
      expect((await call('POST', '/v1/bases', { token, json: base })).body).toEqual(base)
    expect((await call('GET', `/v1/bases/${base.digest}`)).body).toEqual(base)
  })
})

describe('every surface refuses', () => {
  it('unknown fields, unknown parameters, broken JSON, bodies too large and unknown routes', async () => {
    const { call, token } = house
    const code = async (...args: Parameters<typeof call>) => (await call(...args)).body.error.code
    const json = { name: 'newco', colour: 'blue' }
    expect(await code('POST', '/v1/orgs', { token, json })).toBe('ERR_REQUEST_INVALID')
    const twice = new TextEncoder().encode('{"name":"a","name":"b"}')
    expect(await code('POST', '/v1/orgs', { token, body: twice })).toBe('ERR_JSON_INVALID')
    const huge = { name: 'x'.repeat(70_000) }
    expect(await code('POST', '/v1/orgs', { token, json: huge })).toBe('ERR_BODY_TOO_LARGE')
    expect(await code('GET', '/v1/packages?colour=blue')).toBe('ERR_REQUEST_INVALID')
    expect(await code('GET', '/v1/resolve')).toBe('ERR_REQUEST_INVALID')
    expect(await code('GET', '/v1/resolve?ref=sql')).toBe('ERR_REFERENCE_INVALID')
    expect(await code('GET', '/v1/blobs/sha256:12')).toBe('ERR_DIGEST_INVALID')
    expect(await code('GET', '/v1/nowhere')).toBe('ERR_ROUTE_UNKNOWN')
    expect(await code('PATCH', '/v1/orgs')).toBe('ERR_ROUTE_UNKNOWN')
  })

  it('names the request in header and body', async () => {
    const answer = await house.call('GET', '/v1/nowhere')
    expect(answer.headers.get('x-request-id')).toBe(answer.body.error.requestId)
    expect(answer.body.error.requestId).toMatch(/^[0-9a-f-]{36}$/)
  })
})
