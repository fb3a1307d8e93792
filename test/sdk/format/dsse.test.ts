import { createPublicKey, verify } from 'node:crypto'
import {
  type DsseEnvelope,
  preAuthEncoding,
  signDsse,
  MANIFEST_MEDIA_TYPE as TYPE,
  verifyDsse,
} from '@graft/sdk/format/dsse.ts'
import { fromDer, toDer } from '@graft/sdk/format/ecdsa-der.ts'
import { generateSigningKey, type SigningKey } from '@graft/sdk/format/jws.ts'
import { publicKeyPem } from '@graft/sdk/format/raw-signature.ts'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { codeOf } from './vectors.ts'

const PAYLOAD = new TextEncoder().encode('{"a":1}')
let ed: SigningKey
let es: SigningKey
let envelope: DsseEnvelope
let keys: JsonWebKey[]
beforeAll(async () => {
  ed = await generateSigningKey()
  es = await generateSigningKey('ES256')
  envelope = await signDsse(PAYLOAD, TYPE, [ed, es])
  keys = [ed.publicJwk, es.publicJwk]
})

describe('DSSE', () => {
  it('encodes what is signed as the example of the protocol does', () => {
    const body = new TextEncoder().encode('hello world')
    const pae = new TextDecoder().decode(preAuthEncoding('http://example.com/HelloWorld', body))
    expect(pae).toBe('DSSEv1 29 http://example.com/HelloWorld 11 hello world')
  })

  it('counts bytes, not characters', () => {
    const pae = new TextDecoder().decode(preAuthEncoding('é', new TextEncoder().encode('😀')))
    expect(pae).toBe('DSSEv1 2 é 4 😀')
  })

  it('makes signatures that Node verifies from the PEM, ECDSA in DER', async () => {
    for (const [i, key] of [ed, es].entries()) {
      const publicKey = createPublicKey(await publicKeyPem(key.publicJwk))
      const sig = Buffer.from(envelope.signatures[i]!.sig, 'base64')
      const data = preAuthEncoding(TYPE, PAYLOAD)
      expect(verify(key.alg === 'ES256' ? 'sha256' : null, data, publicKey, sig)).toBe(true)
    }
  })

  it('names every signer once, in order', async () => {
    const { payload, kids } = await verifyDsse(envelope, TYPE, keys)
    expect([...payload]).toEqual([...PAYLOAD])
    expect(kids).toEqual([ed.kid, es.kid])
  })

  it.each<[string, (e: DsseEnvelope) => unknown, string]>([
    ['a changed payload', (e) => ({ ...e, payload: 'e30=' }), 'ERR_SIGNATURE_INVALID'],
    ['another payload type', (e) => ({ ...e, payloadType: 'text/plain' }), 'ERR_SIGNATURE_INVALID'],
    ['a payload in base64url', (e) => ({ ...e, payload: 'e30' }), 'ERR_SIGNATURE_INVALID'],
    ['no signatures', (e) => ({ ...e, signatures: [] }), 'ERR_SIGNATURE_INVALID'],
    [
      'one bad signature among good ones',
      (e) => ({ ...e, signatures: [e.signatures[0], { ...e.signatures[1], sig: 'AAAA' }] }),
      'ERR_SIGNATURE_INVALID',
    ],
    [
      'the same signer twice',
      (e) => ({ ...e, signatures: [e.signatures[0], e.signatures[0]] }),
      'ERR_SIGNATURE_INVALID',
    ],
    [
      'a signature without keyid',
      (e) => ({ ...e, signatures: [{ sig: e.signatures[0]!.sig }] }),
      'ERR_KEY_UNKNOWN',
    ],
    [
      'nine signatures',
      (e) => ({ ...e, signatures: Array(9).fill(e.signatures[0]) }),
      'ERR_SIGNATURE_INVALID',
    ],
    ['a signature that is null', (e) => ({ ...e, signatures: [null] }), 'ERR_SIGNATURE_INVALID'],
    ['an unknown member', (e) => ({ ...e, alg: 'none' }), 'ERR_SIGNATURE_INVALID'],
    ['null', () => null, 'ERR_SIGNATURE_INVALID'],
  ])('refuses %s', async (_, change, code) => {
    const changed = change(envelope) as DsseEnvelope
    await expect(verifyDsse(changed, TYPE, keys)).rejects.toMatchObject({ code })
  })

  it('refuses a signer who is not trusted', () =>
    expect(verifyDsse(envelope, TYPE, [ed.publicJwk])).rejects.toMatchObject({
      code: 'ERR_KEY_UNKNOWN',
    }))
})

describe('ECDSA signatures in DER', () => {
  it('carry any two numbers of 32 bytes there and back', () => {
    const half = fc.uint8Array({ minLength: 32, maxLength: 32 })
    const small = fc.nat(255).map((n) => new Uint8Array(32).fill(n, 31))
    fc.assert(
      fc.property(fc.oneof(half, small), fc.oneof(half, small), (r, s) => {
        const raw = new Uint8Array([...r, ...s])
        expect(fromDer(toDer(raw))).toEqual(raw)
      }),
    )
  })

  it.each([
    ['nothing', ''],
    ['a sequence of one', '3003020101'],
    ['a leading zero', '300702020001020101'],
    ['a negative number', '3006020181020101'],
    ['bytes after it', '300602010102010100'],
    ['a long length', '30810602010102010100'],
    ['an integer of 34 bytes', `3027${'0222'}${'01'.repeat(34)}020101`],
    ['a length beyond the end', '3006020101027f01'],
  ])('are refused with %s', (_, hex) =>
    expect(codeOf(() => fromDer(new Uint8Array(Buffer.from(hex, 'hex'))))).toBe(
      'ERR_SIGNATURE_INVALID',
    ),
  )
})
