import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { decodeBase64, encodeBase64, encodeBase64url } from '@graft/sdk/format/base64url.ts'
import { generateSigningKey, importSigningKey, type SigningKey } from '@graft/sdk/format/jws.ts'
import { formatCheckpoint, parseCheckpoint } from '@graft/sdk/format/tlog/checkpoint.ts'
import { decodeEntries, encodeEntries } from '@graft/sdk/format/tlog/entry-bundle.ts'
import { cosignNote, signNote, verifyNote } from '@graft/sdk/format/tlog/note-signatures.ts'
import { formatNote, parseNote } from '@graft/sdk/format/tlog/signed-note.ts'
import {
  formatVerifierKey,
  NOTE_SIGNATURE,
  noteKey,
  parseVerifierKey,
} from '@graft/sdk/format/tlog/verifier-key.ts'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'

const fixture = JSON.parse(
  readFileSync(join(import.meta.dirname, 'fixtures/fixtures.json'), 'utf8'),
) as {
  note: { key: string; seed: string; text: string; note: string }
  cosignature: string
}
const NAME = 'log.example/graft'
const invalid = { code: 'ERR_SIGNATURE_INVALID' }

describe('notes against golang.org/x/mod/sumdb/note', () => {
  let key: SigningKey
  beforeAll(async () => {
    const x = encodeBase64url(decodeBase64(fixture.note.key.split('+').slice(2).join('+')).slice(1))
    const d = encodeBase64url(decodeBase64(fixture.note.seed))
    key = await importSigningKey({ kty: 'OKP', crv: 'Ed25519', x, d })
  })

  it('reads its verifier key and writes the same', async () => {
    const parsed = await parseVerifierKey(fixture.note.key)
    expect(parsed).toMatchObject({ name: NAME, type: NOTE_SIGNATURE.ed25519 })
    expect(formatVerifierKey(parsed)).toBe(fixture.note.key)
  })

  it('accepts its signed checkpoint and signs the same bytes', async () => {
    const note = parseNote(fixture.note.note)
    expect(note.text).toBe(fixture.note.text)
    const verified = await verifyNote(note, await parseVerifierKey(fixture.note.key))
    expect(verified).toEqual({ time: null })
    const signed = { text: note.text, signatures: [await signNote(note.text, NAME, key)] }
    expect(formatNote(signed)).toBe(fixture.note.note)
    const checkpoint = parseCheckpoint(note.text)
    expect(checkpoint).toMatchObject({ origin: NAME, size: 70_000 })
    expect(formatCheckpoint(checkpoint)).toBe(note.text)
  })

  it("makes the cosignature that Go's Ed25519 makes by the rules of tlog-cosignature", async () => {
    const cosignature = await cosignNote(fixture.note.text, NAME, key, 1_679_315_147)
    expect(encodeBase64(cosignature.bytes)).toBe(fixture.cosignature)
    const witness = await noteKey(NAME, NOTE_SIGNATURE.cosignature, key.publicJwk)
    const note = { text: fixture.note.text, signatures: [cosignature] }
    expect(await verifyNote(note, witness)).toEqual({ time: 1_679_315_147 })
    // One key, two kinds of signature: neither passes for the other.
    const plain = await parseVerifierKey(fixture.note.key)
    expect(await verifyNote(note, plain)).toBeNull()
    const posing = { ...cosignature, id: plain.id, bytes: cosignature.bytes.slice(8) }
    const forged = { ...note, signatures: [posing] }
    await expect(verifyNote(forged, plain)).rejects.toMatchObject(invalid)
  })

  it("accepts the example of tlog-checkpoint's specification in form", () => {
    const note = parseNote(
      'example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n',
    )
    expect(parseCheckpoint(note.text)).toMatchObject({ size: 20_852_163 })
    expect(note.signatures).toMatchObject([{ name: 'example.com/behind-the-sofa', id: 0x033de0ae }])
  })

  it('refuses a text with any bit changed, and a signature with any bit changed', async () => {
    const plain = await parseVerifierKey(fixture.note.key)
    const signature = await signNote(fixture.note.text, NAME, key)
    await fc.assert(
      fc.asyncProperty(fc.nat(), fc.boolean(), async (at, inText) => {
        const bytes = Uint8Array.from(signature.bytes)
        let text = fixture.note.text
        if (inText) {
          const i = at % (text.length - 1)
          text = `${text.slice(0, i)}${String.fromCharCode(text.charCodeAt(i) ^ 1)}${text.slice(i + 1)}`
        } else bytes[at % bytes.length]! ^= 1 << (at % 8)
        const note = { text, signatures: [{ ...signature, bytes }] }
        await expect(verifyNote(note, plain)).rejects.toMatchObject(invalid)
      }),
      { numRuns: 200 },
    )
  })

  it('ignores keys it does not know, even of the same name, and finds its own among them', async () => {
    const plain = await parseVerifierKey(fixture.note.key)
    const stranger = await generateSigningKey()
    const { text } = fixture.note
    const theirs = await signNote(text, NAME, stranger)
    expect(await verifyNote({ text, signatures: [theirs] }, plain)).toBeNull()
    const both = { text, signatures: [theirs, await signNote(text, NAME, key)] }
    expect(await verifyNote(both, plain)).toEqual({ time: null })
  })
})

describe('what is no note', () => {
  const line = '— a AAAAAAAA\n'
  it('is refused by name', () => {
    for (const note of [
      '',
      'text\n',
      'text\n\n',
      'text\n\nno dash\n',
      `text\n\n${line}trailing`,
      `text\n\n${line.slice(0, -1)}`,
      `te\txt\n\n${line}`,
      `text\r\n\n${line}`,
      'text\n\n— a+b AAAAAAAA\n',
      'text\n\n— a  AAAAAAAA\n',
      'text\n\n— a AAAAAA==\n',
      'text\n\n— a AAAAAAA\n',
      'text\n\n- a AAAAAAAA\n',
      `text\n\n${line.repeat(101)}`,
      `${'x'.repeat(70_000)}\n\n${line}`,
    ])
      expect(() => parseNote(note), JSON.stringify(note.slice(0, 40))).toThrow(
        expect.objectContaining(invalid),
      )
  })

  it('never crashes on any text, and what is accepted is written back the same', () => {
    const pieces = fc.constantFrom('\n', '\n\n', '— ', 'a', ' ', 'AAAAAAAA', 'é', '+', '=')
    const text = fc.oneof(
      fc.string(),
      fc.array(pieces, { maxLength: 20 }).map((p) => p.join('')),
    )
    fc.assert(
      fc.property(text, (note) => {
        try {
          expect(formatNote(parseNote(note))).toBe(note)
        } catch (e) {
          expect(e).toMatchObject(invalid)
        }
      }),
      { numRuns: 2000 },
    )
  })
})

describe('what is no checkpoint', () => {
  const root = 'CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I='
  it('is refused by name', () => {
    for (const text of [
      '',
      `log\n1\n${root}`,
      `\n1\n${root}\n`,
      `log\n01\n${root}\n`,
      `log\n-1\n${root}\n`,
      `log\n1e3\n${root}\n`,
      `log\n9007199254740993\n${root}\n`,
      `log\n1\n${root.slice(4)}\n`,
      `log\n1\n${root.slice(0, -1)}\n`,
      'log\n1\nnot base64\n',
      `log\n1\n${root}\nextension\n`,
    ])
      expect(() => parseCheckpoint(text), JSON.stringify(text)).toThrow(
        expect.objectContaining(invalid),
      )
    expect(parseCheckpoint(`log\n0\n${root}\n`).size).toBe(0)
  })
})

describe('what is no verifier key', () => {
  it('is refused by name', async () => {
    const { key } = fixture.note
    const [name, id, material] = [NAME, key.split('+')[1], key.split('+').slice(2).join('+')]
    for (const text of [
      '',
      name,
      `${name}+${id}`,
      `${name}+00000000+${material}`,
      `other+${id}+${material}`,
      `two words+${id}+${material}`,
      `${name}+${id}+${material.slice(4)}`,
      `${name}+${id}+${material.replace(/^A/, 'C')}`,
    ])
      await expect(parseVerifierKey(text), text).rejects.toMatchObject({ code: 'ERR_KEY_UNKNOWN' })
    const elliptic = (await generateSigningKey('ES256')).publicJwk
    await expect(noteKey(name, NOTE_SIGNATURE.ed25519, elliptic)).rejects.toMatchObject({
      code: 'ERR_KEY_UNKNOWN',
    })
  })
})

describe('entry bundles', () => {
  it('go back and forth', () => {
    const entries = fc.array(fc.uint8Array({ maxLength: 700 }), { maxLength: 20 })
    fc.assert(
      fc.property(entries, (all) => {
        expect(decodeEntries(encodeEntries(all), all.length)).toEqual(all)
      }),
    )
  })

  it('are refused when cut, miscounted or too long', () => {
    const bundle = encodeEntries([Uint8Array.of(1, 2, 3)])
    expect([...bundle]).toEqual([0, 3, 1, 2, 3])
    for (const [bytes, count] of [
      [bundle.subarray(0, 4), 1],
      [bundle.subarray(0, 1), 1],
      [bundle, 2],
      [bundle, 0],
    ] as const)
      expect(() => decodeEntries(bytes, count)).toThrow(
        expect.objectContaining({ code: 'ERR_DIGEST_MISMATCH' }),
      )
    expect(() => encodeEntries([new Uint8Array(65_536)])).toThrow(
      expect.objectContaining({ code: 'ERR_BODY_TOO_LARGE' }),
    )
  })
})
