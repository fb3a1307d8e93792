import { createRegistryClient } from '@graft/sdk/client/registry-client.ts'
import { checkLog, type LoggedVersion, verifyLogProof } from '@graft/sdk/client/verify-log.ts'
import { decodeBase64 } from '@graft/sdk/format/base64url.ts'
import { generateSigningKey, type SigningKey } from '@graft/sdk/format/jws.ts'
import { formatCheckpoint, parseCheckpoint } from '@graft/sdk/format/tlog/checkpoint.ts'
import { decodeEntries } from '@graft/sdk/format/tlog/entry-bundle.ts'
import { cosignNote } from '@graft/sdk/format/tlog/note-signatures.ts'
import { formatNote, parseNote } from '@graft/sdk/format/tlog/signed-note.ts'
import { formatTilePath, tileOf } from '@graft/sdk/format/tlog/tile-path.ts'
import { formatVerifierKey, NOTE_SIGNATURE, noteKey } from '@graft/sdk/format/tlog/verifier-key.ts'
import type { LogFeed, LogProof } from '@graft/sdk/protocol/log.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { naiveLeaf, naiveRoot } from '../sdk/format/tlog/naive.ts'
import {
  type Adapter,
  type App,
  adapter,
  furnish,
  type House,
  publish,
  publishRequest,
} from './fixtures.ts'

/** A client that speaks to an app in memory. */
export const clientOf = (app: { request: App['request'] }, token?: string) =>
  createRegistryClient({
    url: 'http://registry.test',
    ...(token ? { token } : {}),
    retries: 0,
    fetch: async (input, init) => {
      const { pathname, search } = new URL(String(input))
      const { status, headers, body } = await app.request(pathname + search, init)
      // workerd's answers come as another realm's Response.
      return new Response(body as never, { status, headers: [...headers] })
    },
  })

export const factsOf = ({ manifest, digest }: Adapter): LoggedVersion => ({
  name: manifest.name,
  version: manifest.version,
  digest,
})

export const WITNESS = 'witness.example/w1'
export const makeWitness = async () => {
  const key = await generateSigningKey()
  const vkey = formatVerifierKey(await noteKey(WITNESS, NOTE_SIGNATURE.cosignature, key.publicJwk))
  return { key, vkey }
}

/** The registry's log over HTTP, whatever platform it runs on. `prepare` gives an empty registry that takes `witness`. */
export const logContract = (
  platform: string,
  prepare: (
    witness: string,
  ) => Promise<{ app: { request: App['request'] }; close(): Promise<void> }>,
) =>
  describe(`the transparency log on ${platform}`, () => {
    let app: { request: App['request'] }
    let close: () => Promise<void>
    let house: House
    let witness: { key: SigningKey; vkey: string }
    let open: Adapter
    let secret: Adapter
    beforeAll(async () => {
      witness = await makeWitness()
      ;({ app, close } = await prepare(witness.vkey))
      house = await furnish(app as never)
      open = await adapter({ base: house.base })
      await publish(house.call, house.token, open, await publishRequest(open, house.key))
      secret = await adapter({ base: house.base, name: '@acme/hidden-plan', seed: 99 })
      const request = await publishRequest(secret, house.key, { visibility: 'private' })
      await publish(house.call, house.token, secret, request)
    })
    afterAll(() => close())

    const text = async (path: string): Promise<string> => {
      const { status, body } = await house.call('GET', path)
      expect(status, path).toBe(200)
      return new TextDecoder().decode(body)
    }
    const checkpoint = async () => parseCheckpoint(parseNote(await text('/checkpoint')).text)
    const feed = async (from = 0): Promise<LogFeed> =>
      (await house.call('GET', `/v1/log/entries?from=${from}`)).body
    const everything = async () => {
      const { size } = await checkpoint()
      const entries: Uint8Array[] = []
      while (entries.length < size) {
        const tile = tileOf('entries', Math.floor(entries.length / 256), size)
        const { body } = await house.call('GET', `/${formatTilePath(tile)}`)
        entries.push(...decodeEntries(body, tile.width))
      }
      return entries
    }
    const moveTag = (tag: string) =>
      house.call('PUT', `/v1/packages/@acme/sql/tags/${tag}`, {
        token: house.token,
        json: { version: '1.0.0' },
      })

    it('holds a leaf for the key, the versions and each tag, in the order of commits, under a signed root', async () => {
      const { entries, size, next } = await feed()
      expect(size).toBe(5)
      expect(next).toBe(5)
      expect(entries.map(({ entry }) => JSON.parse(entry).kind)).toEqual([
        'key.add',
        'version.publish',
        'tag.move',
        'version.publish',
        'tag.move',
      ])
      expect(JSON.parse(entries[0]!.entry)).toMatchObject({
        org: 'acme',
        facts: { kid: house.key.kid },
      })
      expect(JSON.parse(entries[1]!.entry)).toMatchObject({
        package: '@acme/sql',
        facts: { version: '1.0.0', digest: open.digest },
      })
      const head = await checkpoint()
      expect(head).toMatchObject({ origin: 'registry.test', size: 5 })
      const bytes = await everything()
      expect(bytes.map((entry) => new TextDecoder().decode(entry))).toEqual(
        entries.map(({ entry }) => entry),
      )
      expect(head.root).toEqual(naiveRoot(bytes))
      const tile = (await house.call('GET', '/tile/0/000.p/5')).body
      expect([...tile]).toEqual(bytes.flatMap((entry) => [...naiveLeaf(entry)]))
    })

    it('proves a pulled version to a client, who follows the log as it grows', async () => {
      const client = clientOf(app)
      const pulled = await client.pull('@acme/sql')
      const first = await checkLog(client.log, pulled.resolution, null)
      expect(first.index).toBe(1)
      expect(first.memory.key).toBe((await client.log.key()).key)
      await moveTag('beta')
      const second = await checkLog(client.log, factsOf(open), first.memory)
      expect(second.checkpoint.size).toBe(first.checkpoint.size + 1)
      const same = await checkLog(client.log, factsOf(open), second.memory)
      expect(same.checkpoint.root).toEqual(second.checkpoint.root)
    })

    it('is silent about private packages to whoever may not read them, and proves them to whoever may', async () => {
      const said = (await everything()).map((entry) => new TextDecoder().decode(entry)).join('\n')
      for (const word of ['hidden-plan', secret.digest, secret.digest.slice(7)])
        expect(said).not.toContain(word)
      const stranger = await clientOf(app)
        .log.proof(secret.digest)
        .catch((e) => e)
      expect(stranger.code).toBe('ERR_VERSION_UNKNOWN')
      const client = clientOf(app, house.token)
      const { proof } = await checkLog(client.log, factsOf(secret), null)
      expect(JSON.parse(proof.entry).package).toMatch(/^hmac-sha256:[0-9a-f]{64}$/)
      const { key } = await client.log.key()
      const guess = { ...proof, salt: Buffer.alloc(32).toString('base64') }
      const wrong = { code: 'ERR_DIGEST_MISMATCH' }
      await expect(verifyLogProof(factsOf(secret), guess, key)).rejects.toMatchObject(wrong)
      const { salt: _, ...bare } = proof
      await expect(verifyLogProof(factsOf(secret), bare, key)).rejects.toMatchObject(wrong)
      // Its owners find every event of the package by one hash; others see that it is one package, and not which.
      const hidden = (await feed()).entries
        .map(({ entry }) => JSON.parse(entry))
        .filter((entry) => String(entry.package).startsWith('hmac'))
      expect(hidden.map(({ kind }) => kind)).toEqual(['version.publish', 'tag.move'])
      expect(new Set(hidden.map((entry) => entry.package)).size).toBe(1)
      expect(new Set(hidden.map((entry) => entry.facts)).size).toBe(2)
    })

    it('has no proof that a client takes for another version, index, entry, hash or key', async () => {
      const { log } = clientOf(app)
      const proof = await log.proof(open.digest)
      const { key } = await log.key()
      const what = factsOf(open)
      expect((await verifyLogProof(what, proof, key)).index).toBe(1)
      const flip = (base64: string) => {
        const bytes = decodeBase64(base64)
        bytes[0]! ^= 1
        return Buffer.from(bytes).toString('base64')
      }
      const bent: LogProof[] = [
        { ...proof, index: 0 },
        { ...proof, index: -1 },
        { ...proof, entry: proof.entry.replace('1.0.0', '9.9.9') },
        { ...proof, entry: '{}' },
        { ...proof, entry: 'null' },
        { ...proof, entry: '{' },
        { ...proof, hashes: proof.hashes.slice(1) },
        { ...proof, hashes: [...proof.hashes, proof.hashes[0]!] },
        { ...proof, hashes: [flip(proof.hashes[0]!), ...proof.hashes.slice(1)] },
        { ...proof, hashes: ['AAAA'] },
        { ...proof, hashes: null as never },
        { ...proof, salt: 'AAAA' },
      ]
      for (const [i, wrong] of bent.entries())
        await expect(verifyLogProof(what, wrong, key), `case ${i}`).rejects.toMatchObject({
          code: 'ERR_DIGEST_MISMATCH',
        })
      for (const other of [
        { ...what, version: '1.0.1' },
        { ...what, name: '@acme/sqI' },
        { ...what, digest: secret.digest },
      ])
        await expect(verifyLogProof(other, proof, key)).rejects.toMatchObject({
          code: 'ERR_DIGEST_MISMATCH',
        })
      const cut = { ...proof, checkpoint: proof.checkpoint.replace(/\n\d+\n/, '\n3\n') }
      await expect(verifyLogProof(what, cut, key)).rejects.toMatchObject({
        code: 'ERR_SIGNATURE_INVALID',
      })
      const stranger = await generateSigningKey()
      const theirs = formatVerifierKey(
        await noteKey('registry.test', NOTE_SIGNATURE.ed25519, stranger.publicJwk),
      )
      await expect(verifyLogProof(what, proof, theirs)).rejects.toMatchObject({
        code: 'ERR_KEY_UNKNOWN',
      })
    })

    it('takes the cosignatures of its witnesses, shows them, and refuses all others', async () => {
      const post = (note: string) =>
        house.call('POST', '/v1/log/cosignatures', { body: new TextEncoder().encode(note) })
      const now = Math.floor(Date.now() / 1000)
      const note = parseNote(await text('/checkpoint'))
      const cosigned = async (key: SigningKey, at = now, of = note.text) =>
        formatNote({ text: of, signatures: [await cosignNote(of, WITNESS, key, at)] })
      const { key } = await clientOf(app).log.key()
      const policy = { witnesses: [witness.vkey] }
      const proof = () => clientOf(app).log.proof(open.digest)
      await expect(verifyLogProof(factsOf(open), await proof(), key, policy)).rejects.toMatchObject(
        { code: 'ERR_SIGNATURE_INVALID' },
      )

      const good = await cosigned(witness.key)
      expect((await post(good)).body).toEqual({ accepted: 1 })
      expect((await post(good)).body).toEqual({ accepted: 1 })
      expect(await text('/checkpoint')).toContain(`— ${WITNESS} `)
      await verifyLogProof(factsOf(open), await proof(), key, policy)
      const both = { witnesses: [witness.vkey, (await makeWitness()).vkey] }
      await verifyLogProof(factsOf(open), await proof(), key, { ...both, quorum: 1 })
      // One witness named twice is still one.
      const twice = { witnesses: [witness.vkey, witness.vkey], quorum: 2 }
      for (const strict of [both, twice])
        await expect(
          verifyLogProof(factsOf(open), await proof(), key, strict),
        ).rejects.toMatchObject({
          code: 'ERR_SIGNATURE_INVALID',
          message: expect.stringMatching(/at least 2 of yours, got 1/),
        })

      const head = parseCheckpoint(note.text)
      const split = formatCheckpoint({ ...head, root: naiveRoot([]) })
      const later = formatCheckpoint({ ...head, size: head.size + 1000 })
      const elsewhere = formatCheckpoint({ ...head, origin: 'log.example' })
      const stranger = await generateSigningKey()
      for (const [sent, code] of [
        [await cosigned(stranger), 'ERR_KEY_UNKNOWN'],
        [await cosigned(witness.key, now, split), 'ERR_DIGEST_MISMATCH'],
        [await cosigned(witness.key, now, later), 'ERR_DIGEST_MISMATCH'],
        [await cosigned(witness.key, now, elsewhere), 'ERR_SIGNATURE_INVALID'],
        [await cosigned(witness.key, now + 86_400), 'ERR_SIGNATURE_INVALID'],
        [good.replace(/\n\d+\n/, '\n1\n'), 'ERR_SIGNATURE_INVALID'],
        ['', 'ERR_SIGNATURE_INVALID'],
        ['x'.repeat(70_000), 'ERR_BODY_TOO_LARGE'],
      ] as const)
        expect((await post(sent)).body.error?.code, sent.slice(0, 60)).toBe(code)

      // What they said of an older tree is not said of the next.
      await moveTag('rc')
      expect(await text('/checkpoint')).not.toContain(`— ${WITNESS} `)
    })

    it('gives every change at once a leaf of its own, and covers it before it is answered', async () => {
      const before = (await checkpoint()).size
      const tags = Array.from({ length: 20 }, (_, i) => `t${i}`)
      const answers = await Promise.all(tags.map(moveTag))
      expect(answers.map(({ status }) => status)).toEqual(tags.map(() => 200))
      const { entries, size } = await feed(before)
      expect(size).toBe(before + 20)
      expect(entries.map(({ index }) => index)).toEqual(tags.map((_, i) => before + i))
      expect(new Set(entries.map(({ entry }) => JSON.parse(entry).facts.tag))).toEqual(
        new Set(tags),
      )
      expect((await checkpoint()).root).toEqual(naiveRoot(await everything()))
    })

    it('logs whatever is said of a version afterwards, with its reason', async () => {
      const gone = await adapter({ base: house.base, name: '@acme/gone', seed: 41 })
      const request = await publishRequest(gone, house.key)
      await publish(house.call, house.token, gone, request)
      const before = (await checkpoint()).size
      const change = async (method: string, what: string, json?: object) => {
        const path = `/v1/packages/@acme/gone/versions/1.0.0/${what}`
        const how = { token: house.token, ...(json ? { json } : {}) }
        expect((await house.call(method, path, how)).status, what).toBe(200)
      }
      await change('PUT', 'deprecation', { message: 'use 2' })
      await change('DELETE', 'deprecation')
      await change('PUT', 'yank', { reason: 'wrong data' })
      await change('DELETE', 'yank')
      await change('PUT', 'tombstone', { reason: 'a key was inside' })
      const said = (await feed(before)).entries.map(({ entry }) => JSON.parse(entry))
      expect(said.map(({ kind }) => kind)).toEqual([
        'version.deprecate',
        'version.undeprecate',
        'version.yank',
        'version.unyank',
        'version.tombstone',
      ])
      for (const { package: name, facts } of said)
        expect([name, facts]).toEqual([
          '@acme/gone',
          expect.objectContaining({ version: '1.0.0', digest: gone.digest }),
        ])
      expect(Object.values(said.at(-1).facts)).toContain('a key was inside')
    })

    it('logs the end of a key, once', async () => {
      const { publicJwk, kid } = await generateSigningKey()
      const put = (status: string) =>
        house.call('POST', '/v1/orgs/acme/keys', {
          token: house.token,
          json: { jwk: publicJwk, status },
        })
      const before = (await checkpoint()).size
      for (const status of ['active', 'active', 'revoked', 'revoked']) await put(status)
      const { entries } = await feed(before)
      expect(entries.map(({ entry }) => JSON.parse(entry))).toMatchObject([
        { kind: 'key.add', org: 'acme', facts: { kid } },
        { kind: 'key.revoke', org: 'acme', facts: { kid } },
      ])
    })

    it('serves whole tiles for ever, partial ones of any width, and nothing beyond its checkpoint', async () => {
      while ((await checkpoint()).size < 270)
        await Promise.all(Array.from({ length: 20 }, (_, i) => moveTag(`t${i}`)))
      const head = await checkpoint()
      const entries = await everything()
      expect(head.root).toEqual(naiveRoot(entries))
      const whole = await house.call('GET', '/tile/0/000')
      expect(whole.headers.get('cache-control')).toBe('public, max-age=31536000, immutable')
      expect(whole.body.length).toBe(8192)
      expect((await house.call('GET', '/checkpoint')).headers.get('cache-control')).toBe('no-cache')
      const above = await house.call('GET', '/tile/1/000.p/1')
      expect(above.body).toEqual(naiveRoot(entries.slice(0, 256)))
      const part = await house.call('GET', '/tile/0/000.p/7')
      expect(part.body).toEqual(whole.body.slice(0, 7 * 32))
      const code = async (path: string) => (await house.call('GET', path)).body.error.code
      for (const path of [`/tile/0/001.p/${head.size - 255}`, '/tile/0/002', '/tile/1/000.p/2'])
        expect(await code(path), path).toBe('ERR_BLOB_UNKNOWN')
      for (const path of ['/tile/0/0', '/tile/x/000', '/tile/9/000', '/tile/0/000.p/256'])
        expect(await code(path), path).toBe('ERR_REQUEST_INVALID')
      for (const query of ['from=-1', 'from=x', 'limit=257', 'other=1'])
        expect(await code(`/v1/log/entries?${query}`), query).toBe('ERR_REQUEST_INVALID')
      expect((await feed(head.size + 5)).entries).toEqual([])
      const client = clientOf(app)
      const first = await client.log.proof(open.digest)
      expect((await verifyLogProof(factsOf(open), first, (await client.log.key()).key)).index).toBe(
        1,
      )
    })
  })
