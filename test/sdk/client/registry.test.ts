import { createRegistryClient, type RegistryClient } from '@graft/sdk/client/registry-client.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { generateSigningKey, signEnvelope } from '@graft/sdk/format/jws.ts'
import { JWS_TYPES } from '@graft/sdk/format/manifest.ts'
import { goldensStatement, statementBytes } from '@graft/sdk/format/statements.ts'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { listen } from '../../edge/helpers/listen.ts'
import { adapter, openHouse, tinyBase } from '../../registry/fixtures.ts'

let house: Awaited<ReturnType<typeof openHouse>>
let server: Awaited<ReturnType<typeof listen>>
let client: RegistryClient
beforeAll(async () => {
  house = await openHouse()
  server = await listen(house.registry.app)
  client = createRegistryClient({ url: server.url, token: house.token, retries: 0 })
})
afterAll(async () => {
  await server.close()
  await house.close()
})

async function toPublish(options: Partial<Parameters<typeof adapter>[0]> = {}) {
  const made = await adapter({ base: house.base, ...options })
  const [canonical, logits] = [...made.files]
  const statement = made.goldens && goldensStatement(made.manifest.name, made.digest, made.goldens)
  return {
    ...made,
    request: {
      manifest: made.manifest,
      safetensors: canonical![1],
      blobs: logits ? [{ digest: logits[0], bytes: logits[1] }] : [],
      attestations: statement
        ? [await signEnvelope(statementBytes(statement), JWS_TYPES.attestation, [house.key])]
        : [],
      keys: [house.key],
    },
  }
}
/** The real registry, with something done to its answers on the way. */
const tampering = (change: (url: string, response: Response) => Promise<Response>) =>
  createRegistryClient({
    url: server.url,
    token: house.token,
    retries: 0,
    fetch: async (url, init) => change(String(url), await fetch(url, init)),
  })
const code = (wanted: string) => expect.objectContaining({ code: wanted })

it('publishes, says what moved, and a second time changes nothing and says so', async () => {
  const { request, digest } = await toPublish({ name: '@acme/twice', withGoldens: true })
  const phases: string[] = []
  const sent: number[] = []
  const first = await client.publish({
    ...request,
    streamUploads: true,
    onProgress: (p) => {
      phases.push(p.phase)
      sent.push(p.sent)
    },
  })
  expect(first).toEqual({ name: '@acme/twice', version: '1.0.0', digest, created: true })
  expect([...new Set(phases)]).toEqual(['signing', 'uploading', 'verifying', 'published'])
  const size = request.safetensors.length + request.blobs[0]!.bytes.length
  expect(Math.max(...sent)).toBe(size)
  expect(await client.publish(request)).toEqual({ ...first, created: false })
  const other = await toPublish({ name: '@acme/twice', seed: 9 })
  await expect(client.publish(other.request)).rejects.toThrow(code('ERR_VERSION_EXISTS'))
})

it('goes on after an upload that broke, without sending again what arrived', async () => {
  const { request, digest } = await toPublish({
    name: '@acme/broken',
    seed: 101,
    withGoldens: true,
  })
  const puts: string[] = []
  let budget = 1
  const flaky = createRegistryClient({
    url: server.url,
    token: house.token,
    retries: 0,
    fetch: async (url, init) => {
      if (init?.method === 'PUT' && budget-- <= 0) throw new TypeError('fetch failed')
      if (init?.method === 'PUT') puts.push(String(url).split('/').at(-1)!)
      return fetch(url, init)
    },
  })
  await expect(flaky.publish(request)).rejects.toThrow(code('ERR_UNREACHABLE'))
  budget = 9
  expect(await flaky.publish(request)).toMatchObject({ digest, created: true })
  expect(new Set(puts).size).toBe(puts.length)
  expect(puts).toHaveLength(2)
})

it('resolves and pulls with every signature, digest and shape proven', async () => {
  const { request, digest } = await toPublish({ name: '@acme/pulled', withGoldens: true })
  await client.publish(request)
  const pulled = await client.pull('@acme/pulled@^1')
  expect(pulled).toMatchObject({ digest, signers: [house.key.kid], manifest: request.manifest })
  expect(pulled.safetensors).toEqual(request.safetensors)
  expect(pulled.attestations[0]!.statement.predicateType).toContain('goldens')
  const pinned = { signers: [house.key.kid] }
  expect((await client.pull(`@acme/pulled@${digest}`, pinned)).digest).toBe(digest)
  const another = await generateSigningKey()
  await expect(client.pull('@acme/pulled@1', { signers: [another.kid] })).rejects.toThrow(
    code('ERR_KEY_UNKNOWN'),
  )
})

it("passes the registry's refusals on by code", async () => {
  await expect(client.resolve({ ref: '@acme/none@1' })).rejects.toThrow(code('ERR_PACKAGE_UNKNOWN'))
  await expect(client.resolve({ ref: 'nonsense' })).rejects.toThrow(code('ERR_REFERENCE_INVALID'))
  await expect(client.manifest('sha256:00')).rejects.toThrow(code('ERR_DIGEST_INVALID'))
  const anonymous = createRegistryClient({ url: server.url })
  await expect(anonymous.whoami()).rejects.toThrow(code('ERR_UNAUTHENTICATED'))
  const { request } = await toPublish({ name: '@acme/stranger' })
  const keys = [await generateSigningKey()]
  await expect(client.publish({ ...request, keys })).rejects.toThrow(code('ERR_KEY_UNKNOWN'))
  await expect(client.publish({ ...request, keys: [] })).rejects.toThrow(
    code('ERR_REQUEST_INVALID'),
  )
  const zero = new Uint8Array(2 * 8 * 4)
  const dead = await toPublish({ name: '@acme/dead', weights: { B: zero } })
  await expect(client.publish(dead.request)).rejects.toThrow(code('ERR_ZERO_EFFECT'))
})

it('gives out no byte of a blob that was changed on the way', async () => {
  const { request } = await toPublish({ name: '@acme/flipped' })
  await client.publish(request)
  const evil = tampering(async (url, response) => {
    if (!url.includes('/v1/blobs/')) return response
    const bytes = new Uint8Array(await response.arrayBuffer())
    bytes[bytes.length - 1]! ^= 1
    return new Response(bytes, response)
  })
  await expect(evil.pull('@acme/flipped@1')).rejects.toThrow(code('ERR_DIGEST_MISMATCH'))
})

it('refuses a manifest that is signed well and is another', async () => {
  const one = await toPublish({ name: '@acme/one' })
  const two = await toPublish({ name: '@acme/two' })
  await client.publish(one.request)
  await client.publish(two.request)
  const swapped = createRegistryClient({
    url: server.url,
    fetch: (url, init) => fetch(String(url).replace(one.digest, two.digest), init),
  })
  await expect(swapped.pull('@acme/one@1')).rejects.toThrow(code('ERR_DIGEST_MISMATCH'))
  const renamed = tampering(async (url, response) => {
    if (!url.includes('/v1/resolve')) return response
    const body = { ...((await response.json()) as object), name: '@acme/two', digest: two.digest }
    return Response.json(body)
  })
  await expect(renamed.pull('@acme/one@1')).rejects.toThrow(code('ERR_DIGEST_MISMATCH'))
})

it('refuses a changed signature, a revoked key and an attestation about something else', async () => {
  const { request, digest } = await toPublish({ name: '@acme/signed', withGoldens: true })
  await client.publish(request)
  // biome-ignore lint/suspicious/noExplicitAny: the test breaks records by name
  const broken = (change: (record: any) => void) =>
    tampering(async (url, response) => {
      if (!url.includes('/v1/manifests/')) return response
      const record = await response.json()
      change(record)
      return Response.json(record)
    }).manifest(digest)
  await expect(
    broken((r) => {
      r.envelope.signatures[0].signature = r.attestations[0].signatures[0].signature
    }),
  ).rejects.toThrow(code('ERR_SIGNATURE_INVALID'))
  await expect(broken((r) => (r.attestations[0] = r.envelope))).rejects.toThrow(
    code('ERR_SIGNATURE_INVALID'),
  )
  await expect(broken((r) => (r.keys[0].status = 'revoked'))).rejects.toThrow(
    code('ERR_KEY_REVOKED'),
  )
  // A key that came after the version cannot have signed it.
  await expect(broken((r) => (r.keys[0].createdAt = '2999-01-01T00:00:00.000Z'))).rejects.toThrow(
    code('ERR_KEY_REVOKED'),
  )
  await expect(broken((r) => (r.keys = []))).rejects.toThrow(code('ERR_KEY_UNKNOWN'))
  await expect(broken(() => {})).resolves.toMatchObject({ digest })
})

it('resumes a download that broke off, by Range', async () => {
  const { request } = await toPublish({ name: '@acme/resumed' })
  await client.publish(request)
  const ranges: (string | null)[] = []
  const cut = createRegistryClient({
    url: server.url,
    token: house.token,
    fetch: async (url, init) => {
      const response = await fetch(url, init)
      if (!String(url).includes('/v1/blobs/')) return response
      ranges.push(new Headers(init?.headers).get('range'))
      if (ranges.length > 1) return response
      const bytes = new Uint8Array(await response.arrayBuffer())
      const body = new ReadableStream({
        start: (c) => c.enqueue(bytes.slice(0, 100)),
        pull: (c) => c.error(new TypeError('terminated')),
      })
      return new Response(body, response)
    },
  })
  expect((await cut.pull('@acme/resumed@1')).safetensors).toEqual(request.safetensors)
  expect(ranges).toEqual([null, 'bytes=100-'])
})

it('never sends its token to another origin than its own', async () => {
  const { request } = await toPublish({ name: '@acme/origin', seed: 105 })
  const seen: [string, string | null][] = []
  const presigned = createRegistryClient({
    url: server.url,
    token: house.token,
    fetch: async (url, init) => {
      const headers = new Headers(init?.headers)
      seen.push([new URL(String(url)).origin, headers.get('authorization')])
      if (String(url).startsWith('https://storage.test')) throw new GraftError('ERR_CANCELLED', '')
      const response = await fetch(url, init)
      if (!String(url).endsWith('/v1/publish')) return response
      const text = (await response.text()).replaceAll('"/v1/publish/', '"https://storage.test/')
      return new Response(text, response)
    },
  })
  await expect(presigned.publish(request)).rejects.toThrow(code('ERR_CANCELLED'))
  expect(seen.map(([origin]) => origin)).toEqual([server.url, 'https://storage.test'])
  expect(seen.map(([, auth]) => auth !== null)).toEqual([true, false])
})

it('manages people, tokens, keys, bases, tags and packages', async () => {
  const owner = await client.createUser({ user: 'bob', org: 'globex' })
  const bob = createRegistryClient({ url: server.url, token: owner.token })
  expect(await bob.whoami()).toMatchObject({ tenant: 'globex' })
  const key = await generateSigningKey('ES256')
  expect(await bob.addKey('globex', key.publicJwk)).toMatchObject({ kid: key.kid })
  expect((await bob.keys('globex')).map(({ kid }) => kid)).toEqual([key.kid])
  const made = await bob.createToken({
    ...{ org: 'globex', name: 'ci', scopes: ['infer'], expiresIn: 600 },
  })
  await bob.revokeToken(made.jti)
  const dead = createRegistryClient({ url: server.url, token: made.token })
  await expect(dead.whoami()).rejects.toMatchObject({ exit: 4 })
  const base = await tinyBase('other-base', 50)
  await bob.putBase(base)
  expect((await bob.bases('other-base'))[0]!.digest).toBe(base.digest)
  expect(await bob.base(base.digest)).toEqual(base)
  await client.publish((await toPublish({ name: '@acme/tagged' })).request)
  await client.setTag('@acme/tagged', 'stable', '1.0.0')
  expect(await client.package('@acme/tagged')).toMatchObject({ tags: { stable: '1.0.0' } })
  expect((await client.packages({ org: 'acme' })).map(({ name }) => name)).toContain('@acme/tagged')
  const { digest } = await client.resolve({ ref: '@acme/tagged@stable' })
  expect((await client.capability(digest)).token.split('.')).toHaveLength(3)
})
