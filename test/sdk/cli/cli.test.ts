import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { createIssuerFeed } from '@graft/edge/auth/issuer-feed.ts'
import { createRegistryClient } from '@graft/sdk/client/registry-client.ts'
import { generateSigningKey } from '@graft/sdk/format/jws.ts'
import { writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import type { BaseRecord } from '@graft/sdk/protocol/registry-api.ts'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { createEdgeOfTests } from '../../edge/helpers/edge.ts'
import { listen } from '../../edge/helpers/listen.ts'
import { answerSteps, sendHeartbeat, startScriptedRunner } from '../../edge/helpers/runner.ts'
import { ISSUER, openHouse } from '../../registry/fixtures.ts'
import { fixtureBase } from '../convert/fixtures.ts'
import { createShell } from './helpers.ts'

const FIXTURES = join(import.meta.dirname, '../convert/fixtures')
let house: Awaited<ReturnType<typeof openHouse>>
let server: Awaited<ReturnType<typeof listen>>
let shell: ReturnType<typeof createShell>
let base: BaseRecord
let kid: string

/** Copies a real PEFT save without what the converter's tests compare with. */
function training(name: string, to: string): string {
  const folder = join(shell.folder, to)
  mkdirSync(folder)
  for (const file of readdirSync(join(FIXTURES, name)))
    if (file !== 'expected.safetensors')
      copyFileSync(join(FIXTURES, name, file), join(folder, file))
  return folder
}

beforeAll(async () => {
  house = await openHouse()
  server = await listen(house.registry.app)
  base = (await fixtureBase()) as BaseRecord
  await createRegistryClient({ url: server.url, token: house.token }).putBase(base)
  shell = createShell({ GRAFT_REGISTRY: server.url, GRAFT_EDGE: 'http://127.0.0.1:9' })
})
afterAll(async () => {
  shell.clean()
  await server.close()
  await house.close()
})

it('logs in from stdin, tries the token, and keeps it readable by its owner alone', async () => {
  const bad = await shell.graft(['login', '--token-stdin', '--json'], { stdin: 'nonsense' })
  expect([bad.exit, bad.json().error.code]).toEqual([4, 'ERR_UNAUTHENTICATED'])
  expect(existsSync(join(shell.folder, 'home/config.json'))).toBe(false)
  const empty = await shell.graft(['login', '--token-stdin'])
  expect([empty.exit, empty.stderr]).toEqual([2, expect.stringContaining('stdin must be a token')])
  const good = await shell.graft(['login', '--token-stdin', '--json'], { stdin: house.token })
  expect(good.json()).toMatchObject({ sub: 'user:ada', tenant: 'acme', registry: server.url })
  expect(statSync(join(shell.folder, 'home/config.json')).mode & 0o777).toBe(0o600)
  expect(good.stdout + good.stderr).not.toContain(house.token)
  const me = await shell.graft(['whoami'])
  expect(me.stdout).toContain('organisation  acme\n')
})

it('makes a key, keeps it at home, registers its public half and lists it', async () => {
  const none = await shell.graft(['publish', '.', '--name', '@acme/x', '--version', '1.0.0'])
  expect([none.exit, none.stderr]).toEqual([5, expect.stringContaining('graft keys generate')])
  const made = (await shell.graft(['keys', 'generate', '--json'])).json()
  kid = made.kid
  expect(made).toMatchObject({ org: 'acme', alg: 'Ed25519' })
  expect(made.jwk.d).toBeUndefined()
  expect(statSync(made.file).mode & 0o777).toBe(0o600)
  const { keys } = (await shell.graft(['keys', 'list', '--json'])).json()
  expect(keys).toContainEqual({ kid, local: true, status: 'active' })
})

it('publishes a real PEFT folder, shows what it understood, and repeats without harm', async () => {
  const folder = training('peft-lora', 'peft')
  const goldens = join(shell.folder, 'goldens.json')
  const logits = { dtype: 'F32', shape: [1, 4], data: new Uint8Array(16) }
  const blob = writeSafetensors(
    new Map([
      ['base.0', logits],
      ['adapted.0', logits],
    ]),
  )
  writeFileSync(join(shell.folder, 'goldens.safetensors'), blob)
  const prompt = { text: 'hi', tokenIds: [1, 2], positions: [1] }
  writeFileSync(
    goldens,
    JSON.stringify({
      ...{ producer: 'peft@0.21.2', basePrecision: 'fp32', logitsFile: 'goldens.safetensors' },
      vocab: 4,
      prompts: [{ ...prompt, greedy: { tokenIds: [3], margins: [0.5] } }],
    }),
  )
  const args = ['publish', folder, '--name', '@acme/sql', '--version', '1.0.0']
  const nameless = await shell.graft([...args, '--json'])
  expect([nameless.exit, nameless.json().error]).toEqual([
    3,
    expect.objectContaining({ code: 'ERR_BASE_UNKNOWN' }),
  ])
  expect(nameless.json().error.message).toMatch(/--base .* it knows .*base/)
  const all = [...args, '--base', 'base', '--goldens', goldens]
  const odd = join(shell.folder, 'odd.json')
  writeFileSync(odd, readFileSync(goldens, 'utf8').replace('"vocab"', '"vocabulary"'))
  const refused = await shell.graft([...all.with(-1, odd), '--json'])
  expect([refused.exit, refused.json().error.code]).toEqual([5, 'ERR_MANIFEST_INVALID'])
  const first = await shell.graft(all)
  expect(first.exit).toBe(0)
  expect(first.stdout).toMatch(/^published @acme\/sql@1\.0\.0\nsha256:[0-9a-f]{64}\n$/)
  expect(first.stderr).toMatch(/source +peft 0\.21\.2/)
  expect(first.stderr).toMatch(/scale +2/)
  expect(first.stderr).not.toContain('\u001b')
  const again = await shell.graft([...all, '--json'])
  expect(again.json()).toMatchObject({ created: false, signer: kid, goldens: true })
  expect(again.json().digest).toBe(first.stdout.split('\n')[1])
  const other = training('peft-rslora', 'peft-other')
  const taken = await shell.graft([...args.with(1, other), '--base', base.digest, '--json'])
  expect([taken.exit, taken.json().error.code]).toEqual([6, 'ERR_VERSION_EXISTS'])
})

it('publishes the README of the folder too, signed with the rest, and pull brings it back', async () => {
  const folder = training('peft-lora', 'peft-with-readme')
  const readme = '---\nlibrary_name: peft\n---\n# Tables\n\nAsks **tables**.\n'
  writeFileSync(join(folder, 'README.md'), readme)
  const args = ['publish', folder, '--base', 'base', '--version', '1.0.0', '--name']
  const with_ = await shell.graft([...args, '@acme/readme'])
  expect([with_.exit, with_.stderr]).toEqual([0, expect.stringMatching(/readme +\d+ B, shown/)])
  expect(with_.stderr).toMatch(/files left out +-/)
  const page = await house.registry.app.request('/@acme/readme')
  expect(await page.text()).toContain('<p dir="auto">Asks <strong>tables</strong>.</p>')
  const to = join(shell.folder, 'pulled-readme')
  expect((await shell.graft(['pull', '@acme/readme', '-o', to])).exit).toBe(0)
  expect(readFileSync(join(to, 'README.md'), 'utf8')).toBe(readme)
  const without = await shell.graft([...args, '@acme/readmeless', '--no-readme'])
  expect([without.exit, without.stderr]).toEqual([
    0,
    expect.stringMatching(/files left out +README/),
  ])
  expect(await (await house.registry.app.request('/@acme/readmeless')).text()).not.toContain('Asks')
  writeFileSync(join(folder, 'README.md'), 'x'.repeat(128 * 1024 + 1))
  const long = await shell.graft([...args, '@acme/long', '--json'])
  expect([long.exit, long.json().error.code]).toEqual([7, 'ERR_BODY_TOO_LARGE'])
})

it('resolves, pulls into a folder that is whole, and pulls again without writing', async () => {
  const resolved = (await shell.graft(['resolve', '@acme/sql@^1', '--json'])).json()
  expect(resolved).toMatchObject({ name: '@acme/sql', version: '1.0.0', base: { name: 'base' } })
  const pulled = await shell.graft(['pull', '@acme/sql@^1', '--json'])
  expect(pulled.json()).toMatchObject({
    digest: resolved.digest,
    folder: 'sql-1.0.0',
    written: true,
  })
  const folder = join(shell.folder, 'sql-1.0.0')
  expect(readdirSync(folder).sort()).toEqual([
    ...['adapter.json', 'adapter.safetensors', 'goldens.safetensors', 'version.json'],
  ])
  const again = await shell.graft(['pull', '@acme/sql', '--json'])
  expect(again.json()).toMatchObject({ written: false })
  const busy = join(shell.folder, 'busy')
  mkdirSync(busy)
  writeFileSync(join(busy, 'mine'), 'x')
  const refused = await shell.graft(['pull', '@acme/sql', '-o', 'busy'])
  expect([refused.exit, refused.stderr]).toEqual([2, expect.stringContaining('--force')])
  expect(readdirSync(busy)).toEqual(['mine'])
  expect(readdirSync(shell.folder).filter((name) => name.startsWith('.graft-'))).toEqual([])
})

it('verifies a folder offline, a digest and a reference, and finds every damage', async () => {
  const { digest } = (await shell.graft(['resolve', '@acme/sql@1', '--json'])).json()
  const offline = { extra: { GRAFT_REGISTRY: 'http://127.0.0.1:9' } }
  const local = await shell.graft(['verify', 'sql-1.0.0', '--json'], offline)
  expect(local.json()).toMatchObject({
    ...{ verified: true, source: 'folder', digest, signers: [kid] },
    goldens: { producer: 'peft@0.21.2', prompts: 1, logits: true },
  })
  for (const target of [digest, '@acme/sql@1'])
    expect((await shell.graft(['verify', target, '--json'])).json()).toMatchObject({
      ...{ source: 'registry', digest, againstBase: true },
    })
  const stranger = await generateSigningKey()
  const pinned = await shell.graft(['verify', 'sql-1.0.0', '--signer', stranger.kid, '--json'])
  expect([pinned.exit, pinned.json().error.code]).toEqual([5, 'ERR_KEY_UNKNOWN'])
  for (const name of ['adapter.json', 'adapter.safetensors', 'goldens.safetensors']) {
    const path = join(shell.folder, 'sql-1.0.0', name)
    const whole = readFileSync(path)
    const bytes = Buffer.from(whole)
    bytes[bytes.length - 3]! ^= 1
    writeFileSync(path, bytes)
    const damaged = await shell.graft(['verify', 'sql-1.0.0', '--json'], offline)
    expect([name, damaged.exit, damaged.json().error.code]).toEqual([
      name,
      5,
      'ERR_DIGEST_MISMATCH',
    ])
    writeFileSync(path, whole)
  }
})

it('inspects a training folder and a pulled one without publishing', async () => {
  const training = await shell.graft(['inspect', 'peft', '--base', 'base', '--json'])
  expect(training.json().report).toMatchObject({ family: 'lora', operations: { low_rank: 4 } })
  const pulled = await shell.graft(['inspect', 'sql-1.0.0'])
  expect(pulled.stdout).toContain('@acme/sql@1.0.0')
  writeFileSync(join(shell.folder, 'peft', 'adapter_config.json'), '{"peft_type":"LORA","new":1}')
  const unknown = await shell.graft(['inspect', 'peft', '--base', 'base', '--json'])
  expect([unknown.exit, unknown.json().error.code]).toEqual([9, 'ERR_CONFIG_UNKNOWN_KEY'])
})

it('lets the administrator make a user with an organisation of their own', async () => {
  const made = await shell.graft(['users', 'create', 'grace', '--org', 'initech', '--json'])
  const as = { extra: { GRAFT_TOKEN: made.json().token as string } }
  expect((await shell.graft(['whoami', '--json'], as)).json()).toMatchObject({ tenant: 'initech' })
  const theirs = await shell.graft(['users', 'create', 'eve', '--org', 'evil', '--json'], as)
  expect([theirs.exit, theirs.json().error.code]).toEqual([4, 'ERR_FORBIDDEN'])
})

it('creates a token that does what it was made for and no more', async () => {
  const args = ['tokens', 'create', '--name', 'ci', '--scopes', 'read', '--json']
  const { token } = (await shell.graft(args)).json()
  const as = { extra: { GRAFT_TOKEN: token as string } }
  expect((await shell.graft(['whoami', '--json'], as)).json()).toMatchObject({ scopes: ['read'] })
  const publish = [
    'publish',
    'sql-1.0.0',
    '--name',
    '@acme/y',
    '--version',
    '1.0.0',
    '--base',
    'base',
  ]
  expect((await shell.graft([...publish, '--json'], as)).exit).not.toBe(0)
  const wrong = await shell.graft(['tokens', 'create', '--name', 'x', '--scopes', 'all', '--json'])
  expect([wrong.exit, wrong.json().error.code]).toEqual([2, 'ERR_REQUEST_INVALID'])
})

it('says what is wrong with usage, as one document with --json, and exits 2', async () => {
  for (const args of [['publish'], ['nonsense'], ['keys'], ['run', 'm', 'p', '--seed', 'x']]) {
    const ran = await shell.graft([...args, '--json'])
    expect([args, ran.exit, ran.json().error.code]).toEqual([args, 2, 'ERR_REQUEST_INVALID'])
  }
  const help = await shell.graft(['--help'])
  expect([help.exit, help.stdout]).toEqual([0, expect.stringContaining('Exit codes: 0 done')])
  const away = await shell.graft(['resolve', '@a/b@1', '--registry', 'http://127.0.0.1:9'])
  expect([away.exit, away.stdout]).toEqual([8, ''])
  expect(away.stderr).toMatch(/^graft: .*check the URL.* \(ERR_UNREACHABLE\)\n$/)
})

describe('calls', () => {
  const closing: (() => unknown)[] = []
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })

  /** The real registry and the real edge; only the runner is told what to say. */
  async function open() {
    const clock = () => new Date()
    const edge = await createEdgeOfTests({
      ...{ registryUrl: server.url, fetch },
      issuer: createIssuerFeed({ registryUrl: server.url, fetch, clock }),
      issuerName: ISSUER,
    })
    const runner = await startScriptedRunner({
      id: 'runner-1',
      base: { name: 'base', digest: base.digest },
      script: ({ adapters }) => answerSteps(adapters.length > 0 ? ['SELECT', ' 1'] : ['no idea']),
    })
    closing.push(() => runner.close())
    expect((await sendHeartbeat(edge.app, edge.fleetKey, runner.heartbeat())).ok).toBe(true)
    const listening = await listen(edge.app)
    closing.push(() => listening.close())
    return { extra: { GRAFT_EDGE: listening.url } }
  }

  it('streams an answer, proves its receipt and shows what it cost', async () => {
    const how = await open()
    const ran = await shell.graft(['run', '@acme/sql@^1', 'one', 'please'], how)
    expect([ran.exit, ran.stdout]).toEqual([0, 'SELECT 1\n'])
    expect(ran.stderr).toMatch(/^5 \+ 2 tokens, 0\.00000025 USD, receipt verified \(req_\d+\)\n$/)
    const { digest } = (await shell.graft(['resolve', '@acme/sql', '--json'])).json()
    const json = (await shell.graft(['run', '@acme/sql', 'hi', '--chat', '--json'], how)).json()
    expect(json).toMatchObject({ text: 'SELECT 1', adapters: [digest], charged: 250 })
    const balance = (await shell.graft(['balance', '--json'], how)).json()
    expect(balance).toMatchObject({ tenant: 'acme', spent: 500, held: 0 })
    const top = await shell.graft(['top-up', 'acme', '1.5', '--json'], how)
    expect([top.exit, top.json().error.code]).toEqual([4, 'ERR_FORBIDDEN'])
    const wrong = await shell.graft(['top-up', 'acme', '1e3', '--json'], how)
    expect([wrong.exit, wrong.json().error.code]).toEqual([2, 'ERR_REQUEST_INVALID'])
    const { token } = (
      await shell.graft(['users', 'create', 'op', '--org', 'operator', '--json'])
    ).json()
    const operator = { extra: { ...how.extra, GRAFT_TOKEN: token as string } }
    const paid = ['top-up', 'acme', '1.5', '--id', 'once', '--json']
    for (const _ of [1, 2])
      expect((await shell.graft(paid, operator)).json()).toMatchObject({ available: 1_500_999_500 })
    expect((await shell.graft(['balance'], how)).stdout).toContain('spent         0.0000005 USD\n')
  })

  it('shows an adapter beside its base, and takes a prompt from stdin', async () => {
    const how = { ...(await open()), stdin: 'hi\n' }
    const args = ['run', '@acme/sql@1', '--compare-base']
    const json = (await shell.graft([...args, '--json'], how)).json()
    expect([json.text, json.compare.text, json.compare.model]).toEqual([
      'SELECT 1',
      'no idea',
      'base',
    ])
    const ran = await shell.graft(args, how)
    expect(ran.stdout).toMatch(/^@acme\/sql@1 +\| base\n-+ \| -+\nSELECT 1 +\| no idea\n$/)
    const empty = await shell.graft(['run', '@acme/sql@1', '--json'], { ...how, stdin: '' })
    expect([empty.exit, empty.json().error.code]).toEqual([2, 'ERR_REQUEST_INVALID'])
    const unknown = await shell.graft(['run', '@acme/none@1', 'hi', '--json'], how)
    expect([unknown.exit, unknown.json().error.code]).toEqual([3, expect.stringMatching(/^ERR_/)])
  })
})

const SCRIPT = existsSync('/usr/bin/script')
if (!SCRIPT) console.log('skipped: no script(1) of util-linux, so no terminal to try')
it.skipIf(!SCRIPT)(
  'draws its progress on a terminal, and not when the terminal is dumb',
  async () => {
    training('peft-ia3', 'ia3')
    const inTerminal = (version: string, term: string) =>
      shell.exec(
        '/usr/bin/script',
        [
          '-qec',
          `${process.execPath} ${join(import.meta.dirname, '../../../sdk/cli/main.ts')} publish ia3 --base base --name @acme/ia3 --version ${version}`,
          '/dev/null',
        ],
        { extra: { TERM: term } },
      )
    const live = await inTerminal('1.0.0', 'xterm')
    expect(live.stdout).toContain('published @acme/ia3@1.0.0')
    expect(live.stdout).toMatch(/upload \[#+\] [\d.]+ k?B of [\d.]+ k?B, [\d.]+ [kMG]?B\/s/)
    const dumb = await inTerminal('1.0.1', 'dumb')
    expect(dumb.stdout).toContain('published @acme/ia3@1.0.1')
    expect(dumb.stdout).not.toContain('\u001b')
  },
)

it('signs a folder again for other tools, and says with which key', async () => {
  const folder = join(shell.folder, 'to-sign')
  mkdirSync(folder)
  const manifest = readFileSync(
    join(import.meta.dirname, '../format/fixtures/signing/manifest.json'),
  )
  writeFileSync(join(folder, 'adapter.json'), manifest)
  const ed = await shell.graft(['export-signature', folder, '--key', kid, '--json'])
  expect([ed.exit, ed.json().error.message]).toEqual([5, expect.stringContaining('--alg ES256')])
  const args = ['keys', 'generate', '--alg', 'ES256', '--no-register', '--json']
  const { kid: es } = (await shell.graft(args)).json()
  const oms = (await shell.graft(['export-signature', folder, '--key', es, '--json'])).json()
  expect(oms).toMatchObject({ format: 'oms', kid: es, files: ['adapter.json'] })
  const again = (await shell.graft(['export-signature', folder, '--key', es, '--json'])).json()
  expect(again.files).toEqual(['adapter.json'])
  expect(JSON.parse(readFileSync(oms.file, 'utf8'))).toMatchObject({
    mediaType: 'application/vnd.dev.sigstore.bundle.v0.3+json',
  })
  expect(readFileSync(oms.publicKey, 'utf8')).toMatch(/^-----BEGIN PUBLIC KEY-----\n/)
  const dsse = (
    await shell.graft(['export-signature', folder, '--format', 'dsse', '--key', kid, '--json'])
  ).json()
  const envelope = JSON.parse(readFileSync(dsse.file, 'utf8'))
  expect(Buffer.from(envelope.payload, 'base64').equals(manifest)).toBe(true)
  const wrong = await shell.graft(['export-signature', folder, '--format', 'gpg'])
  expect([wrong.exit, wrong.stderr]).toEqual([2, expect.stringContaining('oms')])
})
