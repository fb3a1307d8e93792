import { copyFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createNodeRegistry } from '@graft/registry/node/create-node-registry.ts'
import type { LogClient } from '@graft/sdk/client/log-client.ts'
import { checkLog, type LogMemory } from '@graft/sdk/client/verify-log.ts'
import { generateSigningKey, importSigningKey } from '@graft/sdk/format/jws.ts'
import { cosignNote, signNote } from '@graft/sdk/format/tlog/note-signatures.ts'
import { formatNote, parseNote } from '@graft/sdk/format/tlog/signed-note.ts'
import fc from 'fast-check'
import { afterEach, expect, it } from 'vitest'
import {
  type Adapter,
  adapter,
  furnish,
  ISSUER,
  publish,
  publishRequest,
  SETUP_CODE,
  temporaryFolder,
} from './fixtures.ts'
import { clientOf, factsOf } from './log-contract.ts'

const opened: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close()
})

/** A registry with one published version; `likeness` gives it the log key of another. */
async function open(likeness?: string) {
  const folder = temporaryFolder()
  const time = { offsetMs: 0 }
  if (likeness) {
    mkdirSync(folder.path, { recursive: true })
    copyFileSync(join(likeness, 'log-key.json'), join(folder.path, 'log-key.json'))
  }
  const registry = await createNodeRegistry({
    stateDir: folder.path,
    issuerName: ISSUER,
    setupCode: SETUP_CODE,
    clock: () => new Date(Date.now() + time.offsetMs),
  })
  opened.push(async () => {
    await registry.close()
    folder.clean()
  })
  const house = await furnish(registry.app)
  const add = async (name: string, seed: number): Promise<Adapter> => {
    const made = await adapter({ base: house.base, name, seed })
    await publish(house.call, house.token, made, await publishRequest(made, house.key))
    return made
  }
  const first = await add('@acme/first', 1)
  return { ...house, add, first, folder: folder.path, log: clientOf(registry.app).log, time }
}

/** What somebody between client and registry may do: answer with what the registry said earlier. */
async function recorded(log: LogClient, what: Adapter): Promise<LogClient> {
  const [key, checkpoint, proof] = await Promise.all([
    log.key(),
    log.checkpoint(),
    log.proof(what.digest),
  ])
  const known = { key: async () => key, checkpoint: async () => checkpoint }
  return { ...log, ...known, proof: async () => proof }
}

const meet = async (log: LogClient, what: Adapter): Promise<LogMemory> =>
  (await checkLog(log, factsOf(what), null)).memory

it('refuses a log that was rolled back to before what it showed', async () => {
  const { log, first, add } = await open()
  const past = await recorded(log, first)
  await add('@acme/second', 2)
  const memory = await meet(log, first)
  await checkLog(log, factsOf(first), memory)
  await expect(checkLog(past, factsOf(first), memory)).rejects.toMatchObject({
    code: 'ERR_DIGEST_MISMATCH',
    message: expect.stringMatching(/rolled back: it had \d+ entries and shows \d+/),
  })
})

it('refuses a log that is frozen, and takes the same tree when it is signed anew', async () => {
  const { log, first, time } = await open()
  const frozen = await recorded(log, first)
  const memory = await meet(log, first)
  const later = { now: new Date(Date.now() + 2 * 3_600_000) }
  await expect(checkLog(frozen, factsOf(first), memory, later)).rejects.toMatchObject({
    code: 'ERR_SIGNATURE_INVALID',
    message: expect.stringMatching(/7\d\d\d seconds old and may be 3600/),
  })
  time.offsetMs = 2 * 3_600_000
  const { checkpoint } = await checkLog(log, factsOf(first), memory, later)
  const { checkpoint: before } = await checkLog(frozen, factsOf(first), memory)
  expect(checkpoint).toEqual(before)
  await expect(checkLog(log, factsOf(first), memory)).rejects.toMatchObject({
    code: 'ERR_SIGNATURE_INVALID',
    message: expect.stringMatching(/ahead: a clock is wrong/),
  })
})

it('refuses a checkpoint that does not state its time', async () => {
  const { log, first, folder } = await open()
  const memory = await meet(log, first)
  const proof = await log.proof(first.digest)
  const note = parseNote(proof.checkpoint)
  const bare = formatNote({ ...note, signatures: note.signatures.slice(0, 1) })
  const timeless = { ...log, proof: async () => ({ ...proof, checkpoint: bare }) }
  await expect(checkLog(timeless, factsOf(first), memory)).rejects.toMatchObject({
    code: 'ERR_SIGNATURE_INVALID',
    message: expect.stringMatching(/does not say when it was signed/),
  })
  // Made with the log's own key, that note is good again: the refusal above is for the missing time alone.
  const jwk = JSON.parse(readFileSync(join(folder, 'log-key.json'), 'utf8'))
  const key = await importSigningKey(jwk)
  const name = note.signatures[0]!.name
  const now = Math.floor(Date.now() / 1000)
  const signatures = [
    await signNote(note.text, name, key),
    await cosignNote(note.text, name, key, now),
  ]
  const whole = { ...proof, checkpoint: formatNote({ text: note.text, signatures }) }
  await checkLog({ ...log, proof: async () => whole }, factsOf(first), memory)
})

it('refuses a split view: another tree of the same size, and a larger one that is no continuation', async () => {
  const here = await open()
  const memory = await meet(here.log, here.first)
  // The same key and the same number of events; only the history differs.
  const there = await open(here.folder)
  const seen = await meet(there.log, there.first)
  expect(seen.key).toBe(memory.key)
  await expect(checkLog(there.log, factsOf(there.first), memory)).rejects.toMatchObject({
    code: 'ERR_DIGEST_MISMATCH',
    message: expect.stringMatching(/two trees of 3 entries \(a split view\)/),
  })
  await there.add('@acme/second', 2)
  await expect(checkLog(there.log, factsOf(there.first), memory)).rejects.toMatchObject({
    code: 'ERR_DIGEST_MISMATCH',
    message: expect.stringMatching(/not a continuation of the one of 3 .* \(a split view\)/),
  })
  await here.add('@acme/second', 2)
  await checkLog(here.log, factsOf(here.first), memory)
})

it('refuses tiles that were changed on the way, and a registry whose log has another key', async () => {
  const { log, first, add } = await open()
  const memory = await meet(log, first)
  await add('@acme/second', 2)
  const bent: LogClient = {
    ...log,
    async tile(tile) {
      const bytes = Uint8Array.from(await log.tile(tile))
      bytes[bytes.length - 1]! ^= 1
      return bytes
    },
  }
  await expect(checkLog(bent, factsOf(first), memory)).rejects.toMatchObject({
    code: 'ERR_DIGEST_MISMATCH',
  })
  const other = await open()
  await expect(checkLog(other.log, factsOf(other.first), memory)).rejects.toMatchObject({
    code: 'ERR_KEY_UNKNOWN',
  })
})

it('refuses a version that the registry serves and never logged', async () => {
  const { log, first } = await open()
  const memory = await meet(log, first)
  const proof = await log.proof(first.digest)
  const unlogged = { ...factsOf(first), version: '6.6.6' }
  await expect(
    checkLog({ ...log, proof: async () => proof }, unlogged, memory),
  ).rejects.toMatchObject({
    code: 'ERR_DIGEST_MISMATCH',
    message: expect.stringMatching(/entry \d of the log must be about @acme\/first@6.6.6/),
  })
})

it('keeps its key over a restart, readable by its owner alone, and does not start with a damaged one', async () => {
  const folder = temporaryFolder()
  const start = () => createNodeRegistry({ stateDir: folder.path, issuerName: ISSUER })
  const before = await start()
  const { key } = await clientOf(before.app).log.key()
  await before.close()
  const path = join(folder.path, 'log-key.json')
  expect(statSync(path).mode & 0o777).toBe(0o600)
  const after = await start()
  expect((await clientOf(after.app).log.key()).key).toBe(key)
  await after.close()
  writeFileSync(path, '{}')
  await expect(start()).rejects.toMatchObject({ code: 'ERR_STATE_DAMAGED' })
  folder.clean()
})

it('does not start with a name that no note can carry, or a witness that is none', async () => {
  const folder = temporaryFolder()
  const { publicJwk } = await generateSigningKey()
  for (const [options, code] of [
    [{ issuerName: 'two words' }, 'ERR_REQUEST_INVALID'],
    [{ issuerName: 'cosignature/v1' }, 'ERR_REQUEST_INVALID'],
    [{ issuerName: ISSUER, witnesses: [publicJwk.x!] }, 'ERR_KEY_UNKNOWN'],
  ] as const)
    await expect(createNodeRegistry({ stateDir: folder.path, ...options })).rejects.toMatchObject({
      code,
    })
  folder.clean()
})

it('answers hostile input to the log with a refusal, never with a failure of its own', async () => {
  const { call, first } = await open()
  const scrap = fc.constantFrom(
    ...['tile/', '0/', 'x000/', '000', '.p/', '1', '256', 'entries/', '-1', '%2e%2e/', '%00', '🦀'],
    ...[
      '?from=',
      '?limit=',
      '9'.repeat(20),
      first.digest,
      'log',
      '/',
      '\u2014 a AAAAAAAA\n',
      '\n\n',
    ],
  )
  const text = fc.array(scrap, { maxLength: 8 }).map((parts) => parts.join(''))
  await fc.assert(
    fc.asyncProperty(text, fc.oneof(text, fc.string()), async (path, body) => {
      for (const at of ['/tile/', '/v1/log/', '/v1/log/entries', '/v1/manifests/'])
        expect((await call('GET', encodeURI(at + path))).status, at + path).toBeLessThan(500)
      const sent = new TextEncoder().encode(body)
      const answer = await call('POST', '/v1/log/cosignatures', { body: sent })
      expect(answer.status, body).toBe(422)
    }),
    { numRuns: 400 },
  )
})
