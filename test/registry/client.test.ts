import { createRegistryClient } from '@graft/sdk/client/registry-client.ts'
import { generateSigningKey, signEnvelope } from '@graft/sdk/format/jws.ts'
import { JWS_TYPES } from '@graft/sdk/format/manifest.ts'
import { goldensStatement, statementBytes } from '@graft/sdk/format/statements.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { adapter, openHouse } from './fixtures.ts'

let house: Awaited<ReturnType<typeof openHouse>>
beforeAll(async () => {
  house = await openHouse()
})
afterAll(() => house.close())

const clientOf = (token?: string, onPut?: (path: string) => void) =>
  createRegistryClient({
    url: 'http://registry.test',
    token,
    retries: 0,
    fetch: async (input, init) => {
      if (init?.method === 'PUT') onPut?.(String(input))
      return house.registry.app.request(String(input).slice('http://registry.test'.length), init)
    },
  })

describe("the SDK's client", () => {
  it('publishes with goldens and pulls it back proven', async () => {
    const client = clientOf(house.token)
    const what = await adapter({ base: house.base, withGoldens: true })
    const [weights, logits] = [...what.files]
    const statement = goldensStatement(what.manifest.name, what.digest, what.goldens!)
    const published = await client.publish({
      manifest: what.manifest,
      safetensors: weights![1],
      blobs: [{ digest: logits![0], bytes: logits![1] }],
      attestations: [
        await signEnvelope(statementBytes(statement), JWS_TYPES.attestation, [house.key]),
      ],
      keys: [house.key],
    })
    expect(published).toMatchObject({ digest: what.digest, created: true })
    const pulled = await clientOf().pull('@acme/sql@^1', { base: house.base.digest })
    expect(pulled.safetensors).toEqual(weights![1])
    expect(pulled.signers).toEqual([house.key.kid])
    expect(pulled.attestations[0]!.statement.predicate).toEqual(what.goldens)
  })

  it('goes on where it was cut off, also when the signatures of the second try differ', async () => {
    const key = await generateSigningKey('ES256')
    await clientOf(house.token).addKey('acme', key.publicJwk)
    const what = await adapter({ base: house.base, name: '@acme/cut', seed: 50, withGoldens: true })
    const [weights, logits] = [...what.files]
    const statement = goldensStatement(what.manifest.name, what.digest, what.goldens!)
    const puts: string[] = []
    const attempt = async (signer: typeof key) =>
      clientOf(house.token, (path) => {
        if (puts.push(path) === 2) throw new TypeError('fetch failed')
      }).publish({
        manifest: what.manifest,
        safetensors: weights![1],
        blobs: [{ digest: logits![0], bytes: logits![1] }],
        attestations: [
          await signEnvelope(statementBytes(statement), JWS_TYPES.attestation, [signer]),
        ],
        keys: [signer],
      })
    await expect(attempt(key)).rejects.toMatchObject({ code: 'ERR_UNREACHABLE' })
    // The key that the first try was signed with is gone; what it had sent is not.
    await clientOf(house.token).addKey('acme', key.publicJwk, 'revoked')
    expect(await attempt(house.key)).toMatchObject({ digest: what.digest, created: true })
    expect(puts).toHaveLength(3)
    expect(puts[2]).toBe(puts[1])
    expect((await clientOf().pull('@acme/cut')).signers).toEqual([house.key.kid])
    expect(await attempt(house.key)).toMatchObject({ digest: what.digest, created: false })
  })

  it('pulls a private version with a capability alone', async () => {
    const client = clientOf(house.token)
    const what = await adapter({ base: house.base, name: '@acme/private', seed: 60 })
    const [digest, safetensors] = [...what.files][0]!
    const { manifest } = what
    await client.publish({ manifest, safetensors, keys: [house.key], visibility: 'private' })
    await expect(clientOf().pull('@acme/private')).rejects.toMatchObject({
      code: 'ERR_PACKAGE_UNKNOWN',
    })
    const { token } = await client.capability(what.digest)
    const runner = clientOf(token)
    expect((await runner.manifest(what.digest)).manifest).toEqual(manifest)
    expect(await runner.blob(digest)).toEqual(safetensors)
    await expect(clientOf().blob(digest)).rejects.toMatchObject({ code: 'ERR_BLOB_UNKNOWN' })
  })
})
