import {
  createPrivateKey,
  createPublicKey,
  sign as nodeSign,
  verify as nodeVerify,
} from 'node:crypto'
import { encodeBase64url } from '@graft/sdk/format/base64url.ts'
import * as jws from '@graft/sdk/format/jws.ts'
import type { SignedEnvelope } from '@graft/sdk/format/manifest.ts'
import { beforeAll, describe, expect, it } from 'vitest'
import { hasData, readJsonData } from './vectors.ts'

const TYP = 'graft-manifest+jws'
const PAYLOAD = new TextEncoder().encode('{"a":1}')
const b64 = (value: unknown): string =>
  encodeBase64url(new TextEncoder().encode(JSON.stringify(value)))

let ed: jws.SigningKey
let es: jws.SigningKey
let envelope: SignedEnvelope
let keys: JsonWebKey[]
beforeAll(async () => {
  ed = await jws.generateSigningKey()
  es = await jws.generateSigningKey('ES256')
  envelope = await jws.signEnvelope(PAYLOAD, TYP, [ed, es])
  keys = [ed.publicJwk, es.publicJwk]
})

/** A compact JWS over PAYLOAD by Node's own crypto, with whatever header. */
async function foreign(header: object, key: jws.SigningKey): Promise<string> {
  const input = `${b64(header)}.${encodeBase64url(PAYLOAD)}`
  const jwk = (await jws.exportSigningKey(key)) as never
  const privateKey = createPrivateKey({ key: jwk, format: 'jwk' })
  const signature =
    key.alg === 'Ed25519'
      ? nodeSign(null, Buffer.from(input), privateKey)
      : nodeSign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' })
  return `${input}.${encodeBase64url(signature)}`
}

describe('signing', () => {
  it('makes signatures that Node verifies', async () => {
    const pairs = [ed, es].entries()
    for (const [i, key] of pairs) {
      const { protected: header, signature } = envelope.signatures[i]!
      const input = Buffer.from(`${header}.${envelope.payload}`)
      const publicKey = createPublicKey({ key: key.publicJwk as never, format: 'jwk' })
      const bytes = Buffer.from(signature, 'base64url')
      const valid =
        key.alg === 'Ed25519'
          ? nodeVerify(null, input, publicKey, bytes)
          : nodeVerify('sha256', input, { key: publicKey, dsaEncoding: 'ieee-p1363' }, bytes)
      expect(valid).toBe(true)
    }
  })

  it('verifies what Node signed, Ed25519 by both its names', async () => {
    for (const [alg, key] of [
      ['Ed25519', ed],
      ['EdDSA', ed],
      ['ES256', es],
    ] as const) {
      const compact = await foreign({ alg, kid: key.kid, typ: TYP }, key)
      const { payload, kid } = await jws.verifyCompact(compact, TYP, keys)
      expect([payload, kid]).toEqual([{ a: 1 }, key.kid])
    }
  })

  it('names a key by its RFC 7638 thumbprint: the one of RFC 8037, appendix A.3', async () => {
    const x = '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo'
    expect(await jws.thumbprint({ kty: 'OKP', crv: 'Ed25519', x })).toBe(
      'kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k',
    )
  })

  it('carries a key through its private JWK', async () => {
    for (const key of [ed, es]) {
      const again = await jws.importSigningKey(await jws.exportSigningKey(key))
      expect(again.kid).toBe(key.kid)
      const signed = await jws.signCompact({ b: 2 }, TYP, again)
      expect((await jws.verifyCompact(signed, TYP, [key.publicJwk])).payload).toEqual({ b: 2 })
      expect('d' in again.publicJwk).toBe(false)
    }
  })

  it('refuses a public key as a signing key', () =>
    expect(jws.importSigningKey(ed.publicJwk)).rejects.toMatchObject({ code: 'ERR_KEY_UNKNOWN' }))
})

describe('verifyEnvelope', () => {
  it('names every signer once, in order', async () => {
    const { payload, kids } = await jws.verifyEnvelope(envelope, TYP, keys)
    expect(payload).toEqual(PAYLOAD)
    expect(kids).toEqual([ed.kid, es.kid])
  })

  it('verifies each signature by itself: one bad among good ones is refused', async () => {
    const [first, second] = envelope.signatures
    const flipped = { ...second!, signature: first!.signature }
    const bad = { ...envelope, signatures: [first!, flipped] }
    await expect(jws.verifyEnvelope(bad, TYP, keys)).rejects.toMatchObject({
      code: 'ERR_SIGNATURE_INVALID',
    })
  })

  it.each<[string, (e: SignedEnvelope) => unknown, string]>([
    ['a changed payload', (e) => ({ ...e, payload: b64({ a: 2 }) }), 'ERR_SIGNATURE_INVALID'],
    ['no signatures', (e) => ({ ...e, signatures: [] }), 'ERR_SIGNATURE_INVALID'],
    [
      'the same signer twice',
      (e) => ({ ...e, signatures: [e.signatures[0], e.signatures[0]] }),
      'ERR_SIGNATURE_INVALID',
    ],
    [
      'an unprotected header',
      (e) => ({ ...e, signatures: [{ ...e.signatures[0], header: { alg: 'EdDSA' } }] }),
      'ERR_SIGNATURE_INVALID',
    ],
    ['null', () => null, 'ERR_SIGNATURE_INVALID'],
    ['a text', () => 'e30.e30.AA', 'ERR_SIGNATURE_INVALID'],
    ['a signature that is null', (e) => ({ ...e, signatures: [null] }), 'ERR_SIGNATURE_INVALID'],
    [
      'a signature that is a number',
      (e) => ({ ...e, signatures: [{ ...e.signatures[0], signature: 1 }] }),
      'ERR_SIGNATURE_INVALID',
    ],
    ['an unknown member', (e) => ({ ...e, extra: 1 }), 'ERR_SIGNATURE_INVALID'],
    [
      'nine signatures',
      (e) => ({ ...e, signatures: Array(9).fill(e.signatures[0]) }),
      'ERR_SIGNATURE_INVALID',
    ],
  ])('refuses %s', async (_, change, code) => {
    const changed = change(envelope) as SignedEnvelope
    await expect(jws.verifyEnvelope(changed, TYP, keys)).rejects.toMatchObject({ code })
  })

  it('refuses a signature for one thing as a signature for another', () =>
    expect(jws.verifyEnvelope(envelope, 'graft-attestation+jws', keys)).rejects.toMatchObject({
      code: 'ERR_SIGNATURE_INVALID',
      message: expect.stringContaining('typ must be'),
    }))

  it('knows a key by its thumbprint: one that claims the id of another is no such key', async () => {
    const thief = await jws.generateSigningKey()
    const forged = await jws.signEnvelope(PAYLOAD, TYP, [{ ...thief, kid: ed.kid }])
    const claimed = { ...thief.publicJwk, kid: ed.kid }
    await expect(jws.verifyEnvelope(forged, TYP, [claimed])).rejects.toMatchObject({
      code: 'ERR_KEY_UNKNOWN',
      message: expect.stringContaining('another thumbprint'),
    })
    await expect(jws.verifyEnvelope(forged, TYP, [claimed, ed.publicJwk])).rejects.toMatchObject({
      code: 'ERR_SIGNATURE_INVALID',
    })
  })

  it('says so when a signer is not among the trusted keys', () =>
    expect(jws.verifyEnvelope(envelope, TYP, [ed.publicJwk])).rejects.toMatchObject({
      code: 'ERR_KEY_UNKNOWN',
    }))
})

describe('protected headers', () => {
  it.each<[string, object]>([
    ['jwk', { jwk: {} }],
    ['jku', { jku: 'https://example.com' }],
    ['x5u', { x5u: 'https://example.com' }],
    ['crit', { crit: ['b64'], b64: false }],
    ['alg none', { alg: 'none' }],
    ['alg HS256', { alg: 'HS256' }],
    ['alg of another key kind', { alg: 'ES256' }],
    ['an alg from the prototype', { alg: 'toString' }],
    ['no kid', { kid: undefined }],
    ['no typ', { typ: undefined }],
  ])('with %s are refused although the signature fits', async (_, change) => {
    const compact = await foreign({ alg: 'Ed25519', kid: ed.kid, typ: TYP, ...change }, ed)
    await expect(jws.verifyCompact(compact, TYP, keys)).rejects.toMatchObject({
      code: 'ERR_SIGNATURE_INVALID',
    })
  })

  it('with a duplicate name are refused', async () => {
    const text = `{"alg":"Ed25519","kid":"${ed.kid}","typ":"x","typ":"${TYP}"}`
    const compact = `${encodeBase64url(new TextEncoder().encode(text))}.${b64({})}.AA`
    await expect(jws.verifyCompact(compact, TYP, keys)).rejects.toMatchObject({
      code: 'ERR_SIGNATURE_INVALID',
    })
  })

  it('cannot make a key for encryption verify', async () => {
    const compact = await jws.signCompact({}, TYP, ed)
    for (const change of [{ use: 'enc' }, { key_ops: ['encrypt'] }, { alg: 'ES256' }])
      await expect(
        jws.verifyCompact(compact, TYP, [{ ...ed.publicJwk, ...change }]),
      ).rejects.toMatchObject({ code: 'ERR_SIGNATURE_INVALID' })
  })

  const WYCHEPROOF = 'vectors/wycheproof/testvectors_v1/json_web_signature_test.json'
  it.skipIf(!hasData(WYCHEPROOF))(
    'of every Wycheproof vector are refused: none names a typ of ours',
    async () => {
      const { testGroups } = readJsonData(WYCHEPROOF)
      let tried = 0
      for (const group of testGroups)
        for (const test of group.tests) {
          const key = group.public ?? group.private
          const verified = jws.verifyCompact(String(test.jws), TYP, [key])
          await expect(verified, test.comment).rejects.toMatchObject({
            code: expect.stringMatching(/^ERR_(SIGNATURE_INVALID|KEY_UNKNOWN)$/),
          })
          tried++
        }
      expect(tried).toBeGreaterThan(300)
    },
  )
})

describe('verifyJwt', () => {
  const now = new Date('2026-01-01T00:00:00Z')
  const exp = now.getTime() / 1000 + 60
  const typ = 'graft-access+jwt'
  const check = async (claims: object, audience?: string) =>
    jws.verifyJwt(await jws.signJwt(claims, typ, ed), typ, keys, {
      now,
      ...(audience === undefined ? {} : { audience }),
    })

  it('answers the claims', async () => {
    expect(await check({ exp, aud: ['a', 'b'] }, 'b')).toEqual({ exp, aud: ['a', 'b'] })
  })

  it.each<[string, object, string | undefined, string]>([
    ['an expired token', { exp: exp - 60 }, undefined, 'ERR_TOKEN_EXPIRED'],
    ['no expiry', {}, undefined, 'ERR_UNAUTHENTICATED'],
    ['a token for later', { exp, nbf: exp }, undefined, 'ERR_UNAUTHENTICATED'],
    ['another audience', { exp, aud: 'a' }, 'b', 'ERR_UNAUTHENTICATED'],
    ['no audience where one is asked', { exp }, 'b', 'ERR_UNAUTHENTICATED'],
  ])('refuses %s', async (_, claims, audience, code) => {
    await expect(check(claims, audience)).rejects.toMatchObject({ code })
  })

  it('refuses a token signed by a stranger', async () => {
    const stranger = await jws.generateSigningKey()
    const token = await jws.signJwt({ exp }, typ, stranger)
    await expect(jws.verifyJwt(token, typ, keys, { now })).rejects.toMatchObject({
      code: 'ERR_UNAUTHENTICATED',
    })
  })

  it.each(['', 'a.b', 'a.b.c.d', '..', 'not a token'])('refuses %j', (token) =>
    expect(jws.verifyJwt(token, typ, keys, { now })).rejects.toMatchObject({
      code: 'ERR_UNAUTHENTICATED',
    }),
  )
})
