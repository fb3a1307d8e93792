import { createInferenceClient } from '@graft/sdk/client/inference-client.ts'
import { createLedgerClient } from '@graft/sdk/client/ledger-client.ts'
import { createRegistryClient } from '@graft/sdk/client/registry-client.ts'
import { verifyReceipt } from '@graft/sdk/client/verify-receipt.ts'
import { generateSigningKey, signEnvelope } from '@graft/sdk/format/jws.ts'
import { JWS_TYPES } from '@graft/sdk/format/manifest.ts'
import { goldensStatement, statementBytes } from '@graft/sdk/format/statements.ts'
import type { ReceiptKeys } from '@graft/sdk/protocol/receipts.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { answerSteps, sendHeartbeat, startScriptedRunner } from '../edge/helpers/runner.ts'
import { type Adapter, adapter, tinyBase } from '../registry/fixtures.ts'
import { openWorkers, SETUP_CODE } from './workerd.ts'

/** Prompt 5 tokens at 100, answer 2 tokens at 400: the default prices. */
const CHARGE = 5 * 100 + 2 * 400
const GRANT = 1_000_000

let workers: Awaited<ReturnType<typeof openWorkers>>
let house: Awaited<ReturnType<typeof furnish>>
beforeAll(async () => {
  workers = await openWorkers()
  house = await furnish()
}, 120_000)
afterAll(async () => {
  await house?.runner.close()
  await workers?.close()
})

/** Operator, author and payer, a published adapter, a runner that reported, and money. */
async function furnish() {
  const { url } = workers
  const registry = (token?: string) => createRegistryClient(token ? { url, token } : { url })
  const setup = { code: SETUP_CODE, user: 'ada', org: 'operator' }
  const operator = (await registry().setup(setup)).token
  const user = async (org: string) =>
    (await registry(operator).createUser({ user: `${org}-owner`, org })).token
  const author = registry(await user('acme'))
  const base = await tinyBase()
  await registry(operator).putBase(base)
  const key = await generateSigningKey()
  await author.addKey('acme', key.publicJwk)
  const sql: Adapter = await adapter({ base, withGoldens: true })
  const { goldens, manifest, digest, files } = sql
  const statement = statementBytes(goldensStatement(manifest.name, digest, goldens!))
  const canonical = manifest.files[0]!.sha256
  await author.publish({
    manifest,
    safetensors: files.get(canonical)!,
    blobs: [{ digest: goldens!.logits.sha256, bytes: files.get(goldens!.logits.sha256)! }],
    attestations: [await signEnvelope(statement, JWS_TYPES.attestation, [key])],
    keys: [key],
    visibility: 'public',
  })
  const payer = (
    await registry(await user('globex')).createToken({
      org: 'globex',
      name: 'calls',
      scopes: ['infer', 'read', 'ledger'],
      expiresIn: 3600,
    })
  ).token
  const runner = await startScriptedRunner({
    id: 'runner-1',
    base: { name: base.identity.name, digest: base.digest },
    script: () => answerSteps(['SELECT', ' 1']),
  })
  const app = { request: (path: string, init: RequestInit) => fetch(`${url}${path}`, init) }
  const beat = await sendHeartbeat(app, workers.fleetKey, runner.heartbeat())
  if (!beat.ok) throw new Error(await beat.text())
  const topUp = { tenant: 'globex', amount: GRANT, id: 'grant', memo: '' }
  await createLedgerClient({ url, token: operator }).topUp(topUp)
  return { url, base, sql, canonical, payer, runner }
}

describe('the Worker of all rooms in workerd', () => {
  it('answers for both rooms at one address, and refuses a path of neither', async () => {
    const get = (path: string) => fetch(`${house.url}${path}`)
    expect((await get('/healthz')).status).toBe(200)
    expect(await (await get('/')).text()).toContain('@acme/sql')
    for (const page of ['/search', '/bases', '/@acme', '/@acme/sql', '/icon.svg'])
      expect((await get(page)).status, page).toBe(200)
    const keys = await (await get('/.well-known/jwks.json')).json()
    expect(keys).toMatchObject({ keys: [{ crv: 'Ed25519' }] })
    const unknown = await get('/v1/nothing')
    expect(unknown.status).toBe(404)
    expect(await unknown.json()).toMatchObject({ error: { code: 'ERR_ROUTE_UNKNOWN' } })
  })

  it('resolves and pulls what was published, byte for byte', async () => {
    const { url, payer, sql, canonical } = house
    const pulled = await createRegistryClient({ url, token: payer }).pull('@acme/sql@^1')
    expect(pulled.resolution).toMatchObject({ version: '1.0.0', digest: sql.digest })
    expect(pulled.safetensors).toEqual(sql.files.get(canonical))
  })

  it('answers a paid completion through a runner, receipted to the last token', async () => {
    const { url, payer, base, sql, runner } = house
    const client = createInferenceClient({ url, token: payer })
    const { data } = await client.models.list()
    expect(data.map(({ id }) => id)).toContain(base.identity.name)
    const stream = await client.completions.create({
      model: '@acme/sql@^1',
      prompt: 'the number one',
      max_tokens: 8,
      stream: true,
    })
    let text = ''
    for await (const chunk of stream) text += chunk.choices[0]?.text ?? ''
    expect(text).toBe('SELECT 1')
    expect(runner.requests.at(-1)?.adapters).toMatchObject([{ digest: sql.digest }])

    const keys = (await (await fetch(`${url}/.well-known/graft-keys.json`)).json()) as ReceiptKeys
    const { receipt } = await verifyReceipt(await stream.receipt, keys)
    expect(receipt).toMatchObject({ tenant: 'globex', outcome: 'complete', charged: CHARGE })
    const balance = await createLedgerClient({ url, token: payer }).balance()
    expect(balance).toMatchObject({ available: GRANT - CHARGE, held: 0, spent: CHARGE })
  })
})

describe('rooms deployed apart', () => {
  const asPayer = () => ({ headers: { authorization: `Bearer ${house.payer}` } })

  it('finds the same balance at the edge, whose objects are those of the Worker of all rooms', async () => {
    const whole = await fetch(`${house.url}/v1/balance`, asPayer())
    const apart = await workers.fetchRoom('graft-edge', '/v1/balance', asPayer())
    expect(apart.status).toBe(200)
    const balance = (await apart.json()) as { available: number }
    expect(balance).toEqual(await whole.json())
    expect(balance.available).toBeLessThan(GRANT)
  })

  it('gives each room its own paths alone', async () => {
    const resolve = '/v1/resolve?ref=@acme/sql@^1'
    expect((await workers.fetchRoom('graft-registry', resolve)).status).toBe(200)
    expect((await workers.fetchRoom('graft-edge', resolve)).status).toBe(404)
    expect((await workers.fetchRoom('graft-registry', '/v1/models', asPayer())).status).toBe(404)
    expect((await workers.fetchRoom('graft-edge', '/v1/models', asPayer())).status).toBe(200)
  })
})
