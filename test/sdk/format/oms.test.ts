import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { decodeBase64, encodeBase64 } from '@graft/sdk/format/base64url.ts'
import { sha256 } from '@graft/sdk/format/digest.ts'
import { MANIFEST_MEDIA_TYPE, openDsse } from '@graft/sdk/format/dsse.ts'
import { generateSigningKey, type SigningKey } from '@graft/sdk/format/jws.ts'
import { type OmsBundle, type OmsFile, signOms, verifyOms } from '@graft/sdk/format/oms.ts'
import { verifyBytes } from '@graft/sdk/format/raw-signature.ts'
import { beforeAll, describe, expect, it } from 'vitest'

/** Written by Python's model-signing and securesystemslib: fixtures/signing/make.py. */
const peers = JSON.parse(
  readFileSync(join(import.meta.dirname, 'fixtures/signing/peers.json'), 'utf8'),
)
const filesOf = (texts: Record<string, string>): Promise<OmsFile[]> =>
  Promise.all(
    Object.entries(texts).map(async ([path, text]) => ({ path, sha256: await sha256(text) })),
  )

describe('signatures of other tools', () => {
  it('of model-signing vouch for the files that it signed', async () => {
    const { name, files, ignored } = await verifyOms(peers.oms.bundle, peers.oms.jwk)
    expect(name).toBe('python')
    expect(ignored).toContain('.gitignore')
    const byPath = (a: OmsFile, b: OmsFile) => (a.path < b.path ? -1 : 1)
    expect(files.toSorted(byPath)).toEqual((await filesOf(peers.oms.files)).sort(byPath))
  })

  it('of securesystemslib verify, its key ids being its own', async () => {
    expect(peers.dsse).toHaveLength(2)
    for (const { jwk, envelope } of peers.dsse) {
      const { payload, signed, signatures } = openDsse(envelope, MANIFEST_MEDIA_TYPE)
      expect(new TextDecoder().decode(payload)).toBe('{"a":1}')
      expect(signatures).toHaveLength(1)
      await verifyBytes(jwk, signatures[0]!.sig, signed)
      const other = signatures[0]!.sig.map((byte, i) => (i === 40 ? byte ^ 1 : byte))
      await expect(verifyBytes(jwk, other, signed)).rejects.toMatchObject({
        code: 'ERR_SIGNATURE_INVALID',
      })
    }
  })
})

describe('an OpenSSF model signature', () => {
  let key: SigningKey
  let bundle: OmsBundle
  let files: OmsFile[]
  beforeAll(async () => {
    key = await generateSigningKey('ES256')
    files = await filesOf(peers.oms.files)
    bundle = await signOms('python', files, key, ['model.sig'])
  })

  it('holds the statement that model-signing makes of the same files', async () => {
    const statementOf = ({ dsseEnvelope }: OmsBundle) =>
      JSON.parse(new TextDecoder().decode(decodeBase64(dsseEnvelope.payload)))
    const [ours, theirs] = [statementOf(bundle), statementOf(peers.oms.bundle)]
    expect(ours.subject).toEqual(theirs.subject)
    expect(ours.predicate.resources).toEqual(theirs.predicate.resources)
    expect(Object.keys(ours.predicate.serialization).sort()).toEqual(
      Object.keys(theirs.predicate.serialization).sort(),
    )
  })

  it('does not depend on the order in which the files are listed', async () => {
    const again = await signOms('python', files.toReversed(), key, ['model.sig'])
    expect(again.dsseEnvelope.payload).toBe(bundle.dsseEnvelope.payload)
  })

  const rewritten = (b: OmsBundle, change: (statement: never) => void): OmsBundle => {
    const statement = JSON.parse(new TextDecoder().decode(decodeBase64(b.dsseEnvelope.payload)))
    change(statement as never)
    const payload = encodeBase64(new TextEncoder().encode(JSON.stringify(statement)))
    return { ...b, dsseEnvelope: { ...b.dsseEnvelope, payload } }
  }
  it.each<[string, (b: OmsBundle) => unknown, string]>([
    ['another media type', (b) => ({ ...b, mediaType: 'x' }), 'ERR_SIGNATURE_INVALID'],
    ['no key hint', (b) => ({ ...b, verificationMaterial: {} }), 'ERR_SIGNATURE_INVALID'],
    [
      'the hint of another key',
      (b) => ({ ...b, verificationMaterial: { publicKey: { hint: 'ab' }, tlogEntries: [] } }),
      'ERR_KEY_UNKNOWN',
    ],
    [
      'a changed file',
      (b) =>
        rewritten(b, (s: { predicate: { resources: { digest: string }[] } }) => {
          s.predicate.resources[0]!.digest = 'ab'.repeat(32)
        }),
      'ERR_SIGNATURE_INVALID',
    ],
    ['no envelope', (b) => ({ ...b, dsseEnvelope: null }), 'ERR_SIGNATURE_INVALID'],
    ['a list', () => [], 'ERR_SIGNATURE_INVALID'],
  ])('is refused with %s', async (_, change, code) =>
    expect(verifyOms(change(bundle) as OmsBundle, key.publicJwk)).rejects.toMatchObject({ code }),
  )

  it('is refused when it names a file twice, although the signature fits', async () => {
    const twice = await signOms('python', [...files, files[0]!], key)
    await expect(verifyOms(twice, key.publicJwk)).rejects.toMatchObject({
      code: 'ERR_SIGNATURE_INVALID',
      message: expect.stringContaining('named once each'),
    })
  })

  it('takes P-256 keys only, and says how to make one', async () => {
    const ed = await generateSigningKey()
    await expect(signOms('x', files, ed)).rejects.toMatchObject({
      code: 'ERR_KEY_UNKNOWN',
      message: expect.stringContaining('--alg ES256'),
    })
  })
})
