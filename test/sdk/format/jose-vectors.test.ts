import {
  importSigningKey,
  thumbprint,
  verifyEnvelope,
  verifyFlattened,
} from '@graft/sdk/format/jws.ts'
import type { JwsType } from '@graft/sdk/format/manifest.ts'
import { importPublicKey, verifyBytes } from '@graft/sdk/format/raw-signature.ts'
import { describe, expect, it } from 'vitest'
import { hasData, listData, readJsonData } from './vectors.ts'

const WYCHEPROOF = 'vectors/wycheproof/testvectors_v1'
const COOKBOOK = 'vectors/jose-cookbook'

/** The code of what `run` rejects with, "accepted" otherwise. */
const codeOf = (run: () => Promise<unknown>): Promise<string> =>
  run().then(
    () => 'accepted',
    (e: { code?: string }) => e.code ?? `crash: ${e}`,
  )

/**
 * The vectors name no `typ`, so none is asked for, and choose keys by ids of their own: everything else of a JWS is judged
 * as ours are.
 */
async function verifyAny(jws: string, keys: readonly JsonWebKey[]): Promise<void> {
  const [header = '', payload = '', signature = '', ...rest] = jws.split('.')
  const flattened = { protected: rest.length > 0 ? '' : header, payload, signature }
  const kid = /"kid":"([^"]*)"/.exec(Buffer.from(header, 'base64url').toString())?.[1]
  const key = keys.find((one) => (one as { kid?: string }).kid === kid) ?? keys[0]!
  await verifyFlattened(flattened, undefined as unknown as JwsType, key)
}
const isOurs = ({ kty, crv }: JsonWebKey): boolean =>
  (kty === 'EC' && crv === 'P-256') || (kty === 'OKP' && crv === 'Ed25519')

describe('Wycheproof', () => {
  it.skipIf(!hasData(WYCHEPROOF))('every Ed25519 signature is judged as expected', async () => {
    let tried = 0
    for (const { publicKeyJwk, tests } of readJsonData(`${WYCHEPROOF}/ed25519_test.json`)
      .testGroups)
      for (const { tcId, msg, sig, result, comment } of tests) {
        const bytes = (hex: string) => new Uint8Array(Buffer.from(hex, 'hex'))
        const code = await codeOf(() => verifyBytes(publicKeyJwk, bytes(sig), bytes(msg)))
        const want = result === 'valid' ? 'accepted' : 'ERR_SIGNATURE_INVALID'
        expect(code, `${tcId} ${comment}`).toBe(want)
        tried++
      }
    expect(tried).toBe(151)
  })

  it.skipIf(!hasData(WYCHEPROOF))(
    'every JWS is accepted when it is valid and of an algorithm of ours, and refused otherwise',
    async () => {
      const counts = { accepted: 0, refused: 0, other: 0 }
      for (const file of ['json_web_signature', 'json_web_crypto', 'json_web_key'])
        for (const group of readJsonData(`${WYCHEPROOF}/${file}_test.json`).testGroups) {
          const key = group.public ?? group.private
          const keys: JsonWebKey[] = (key?.keys ?? [key]).filter(Boolean)
          for (const { tcId, jws, result, comment } of group.tests) {
            // JWE, and one JWS in another serialisation: nothing that this format reads.
            if (typeof jws !== 'string') {
              counts.other++
              continue
            }
            const code = await codeOf(() => verifyAny(jws, keys))
            const valid = result === 'valid' && keys.every(isOurs)
            const want = valid ? /^accepted$/ : /^ERR_(SIGNATURE_INVALID|KEY_UNKNOWN)$/
            expect(code, `${file} ${tcId} ${comment}`).toMatch(want)
            counts[valid ? 'accepted' : 'refused']++
          }
        }
      expect(counts).toEqual({ accepted: 3, refused: 472, other: 35 })
    },
  )
})

describe('the JOSE cookbook', () => {
  it.skipIf(!hasData(COOKBOOK))('its Ed25519 signature verifies, and is made again', async () => {
    const { input, signing } = readJsonData(`${COOKBOOK}/curve25519/jws.json`)
    const bytes = new TextEncoder().encode(signing['sig-input'])
    const signature = new Uint8Array(Buffer.from(signing.sig, 'base64url'))
    await verifyBytes(input.key, signature, bytes)
    const { privateKey } = await importSigningKey(input.key)
    const again = new Uint8Array(await crypto.subtle.sign('Ed25519', privateKey, bytes))
    expect(again).toEqual(signature)
    // As a JWS of ours it lacks the key's id.
    const code = await codeOf(() =>
      verifyAny(`${signing['sig-input']}.${signing.sig}`, [input.key]),
    )
    expect(code).toBe('ERR_SIGNATURE_INVALID')
  })

  it.skipIf(!hasData(COOKBOOK))('its RSA, HMAC and P-521 signatures are refused', async () => {
    const files = [
      ...listData(`${COOKBOOK}/jws`).map((file) => `jws/${file}`),
      ...listData(`${COOKBOOK}/rfc7797`).map((file) => `rfc7797/${file}`),
    ]
    expect(files).toHaveLength(10)
    for (const file of files) {
      const { input, output } = readJsonData(`${COOKBOOK}/${file}`)
      const keys = [input.key].flat()
      if (output.compact)
        expect(await codeOf(() => verifyAny(output.compact, keys)), file).toMatch(/^ERR_/)
      const typ = undefined as unknown as JwsType
      expect(await codeOf(() => verifyEnvelope(output.json, typ, keys)), file).toMatch(/^ERR_/)
    }
  })

  it.skipIf(!hasData(COOKBOOK))('its keys, all of other kinds, are refused by name', async () => {
    const files = listData(`${COOKBOOK}/jwk`)
    expect(files).toHaveLength(6)
    for (const file of files) {
      const key = readJsonData(`${COOKBOOK}/jwk/${file}`)
      for (const read of [thumbprint, importPublicKey, importSigningKey])
        expect(await codeOf(() => read(key)), file).toBe('ERR_KEY_UNKNOWN')
    }
  })
})

describe('public keys', () => {
  it.each<[string, JsonWebKey]>([
    ['a point off the curve', { kty: 'EC', crv: 'P-256', x: 'A'.repeat(43), y: 'A'.repeat(43) }],
    ['a short coordinate', { kty: 'OKP', crv: 'Ed25519', x: 'AA' }],
    ['no coordinate', { kty: 'OKP', crv: 'Ed25519' }],
    ['no kind', {}],
    ['a symmetric key', { kty: 'oct', k: 'AA' }],
  ])('are refused when they are %s', async (_, jwk) =>
    expect(await codeOf(() => importPublicKey(jwk))).toBe('ERR_KEY_UNKNOWN'),
  )
})
