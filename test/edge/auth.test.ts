import { generateSigningKey } from '@graft/sdk/format/jws.ts'
import { expect, it } from 'vitest'
import { createEdgeOfTests } from './helpers/edge.ts'
import { answerSteps, sendHeartbeat } from './helpers/runner.ts'

const codeOf = async (response: Response) => [response.status, (await response.json()).error.code]

it('refuses a call without a token, with a forged one, and with one of another issuer', async () => {
  const edge = await createEdgeOfTests()
  const none = await edge.app.request('/v1/models')
  expect(await codeOf(none)).toEqual([401, 'ERR_UNAUTHENTICATED'])
  const forged = await edge.registry.token({ key: await generateSigningKey() })
  expect(await codeOf(await edge.get('/v1/models', forged))).toEqual([401, 'ERR_UNAUTHENTICATED'])
  const good = await edge.registry.token()
  const tampered = `${good.slice(0, -3)}${good.endsWith('AAA') ? 'BBB' : 'AAA'}`
  expect(await codeOf(await edge.get('/v1/models', tampered))).toEqual([401, 'ERR_UNAUTHENTICATED'])
  const other = await edge.registry.token({ iss: 'https://elsewhere.test' })
  expect(await codeOf(await edge.get('/v1/models', other))).toEqual([401, 'ERR_UNAUTHENTICATED'])
})

it('refuses a token that expired', async () => {
  const edge = await createEdgeOfTests()
  const token = await edge.registry.token({ expiresIn: -1 })
  expect(await codeOf(await edge.get('/v1/models', token))).toEqual([401, 'ERR_TOKEN_EXPIRED'])
})

it('refuses a token without the scope', async () => {
  const edge = await createEdgeOfTests()
  const token = await edge.registry.token({ scopes: ['read', 'publish'] })
  expect(await codeOf(await edge.get('/v1/models', token))).toEqual([403, 'ERR_FORBIDDEN'])
  const infer = await edge.registry.token()
  expect(await codeOf(await edge.get('/v1/ledger/entries', infer))).toEqual([403, 'ERR_FORBIDDEN'])
})

it('refuses a revoked token and a tenant below its epoch within ten seconds', async () => {
  const edge = await createEdgeOfTests()
  await edge.runner(() => answerSteps(['x']))
  expect((await edge.get('/v1/models')).status).toBe(200)
  edge.registry.revoked.push('jti-acme')
  edge.shift.ms = 9_000
  expect(await codeOf(await edge.get('/v1/models'))).toEqual([401, 'ERR_UNAUTHENTICATED'])
  edge.registry.revoked.length = 0
  edge.registry.epochs['acme'] = 3
  edge.shift.ms = 18_000
  expect(await codeOf(await edge.get('/v1/models'))).toEqual([401, 'ERR_UNAUTHENTICATED'])
  const newer = await edge.registry.token({ epoch: 3 })
  expect((await edge.get('/v1/balance', newer)).status).toBe(200)
})

it('verifies tokens while the registry is down, but not for ever', async () => {
  const edge = await createEdgeOfTests()
  expect((await edge.get('/v1/balance')).status).toBe(200)
  edge.registry.down = true
  edge.shift.ms = 60_000
  expect((await edge.get('/v1/balance')).status).toBe(200)
  edge.shift.ms = 11 * 60_000
  const token = await edge.registry.token({ expiresIn: 3_600 })
  expect(await codeOf(await edge.get('/v1/balance', token))).toEqual([503, 'ERR_UNREACHABLE'])
})

it('never lets a token near the log', async () => {
  const edge = await createEdgeOfTests()
  await edge.runner(() => [{ type: 'cut' }])
  const token = await edge.registry.token()
  const authorization = `Bearer ${token}`
  await edge.post(
    '/v1/completions',
    { model: 'graft-tiny', prompt: 'secret text' },
    { authorization },
  )
  expect(edge.log.length).toBeGreaterThan(0)
  expect(JSON.stringify(edge.log)).not.toContain(token.split('.')[2])
  expect(JSON.stringify(edge.log)).not.toContain('secret text')
})

it('takes heartbeats only from a runner of this fleet', async () => {
  const edge = await createEdgeOfTests()
  const runner = await edge.runner(() => answerSteps(['x']))
  const beat = runner.heartbeat()
  const stranger = await sendHeartbeat(edge.app, await generateSigningKey(), beat)
  expect(await codeOf(stranger)).toEqual([401, 'ERR_UNAUTHENTICATED'])
  const anEdge = await sendHeartbeat(edge.app, edge.fleetKey, beat, { role: 'edge' })
  expect(await codeOf(anEdge)).toEqual([403, 'ERR_FORBIDDEN'])
  const impostor = await sendHeartbeat(edge.app, edge.fleetKey, beat, { iss: 'runner-2' })
  expect(await codeOf(impostor)).toEqual([403, 'ERR_FORBIDDEN'])
  const misdirected = await sendHeartbeat(edge.app, edge.fleetKey, beat, { aud: 'runner-2' })
  expect(await codeOf(misdirected)).toEqual([401, 'ERR_UNAUTHENTICATED'])
})

it('shows the fleet and tops books up for the operator alone', async () => {
  const edge = await createEdgeOfTests({ grant: 0 })
  await edge.runner(() => answerSteps(['x']))
  const admin = await edge.registry.token({ scopes: ['admin'] })
  const operator = await edge.registry.token({ tenant: 'operator', scopes: ['admin'] })
  const topUp = { tenant: 'acme', amount: 700, id: 't1', memo: 'hello' }
  const send = (token: string, body: unknown = topUp) =>
    edge.post('/v1/ledger/top-ups', body, { authorization: `Bearer ${token}` })
  expect(await codeOf(await edge.get('/v1/fleet', admin))).toEqual([403, 'ERR_FORBIDDEN'])
  expect(await codeOf(await send(admin))).toEqual([403, 'ERR_FORBIDDEN'])
  expect(await (await send(operator)).json()).toMatchObject({ tenant: 'acme', available: 700 })
  expect(await (await send(operator)).json()).toMatchObject({ available: 700 })
  expect(await codeOf(await send(operator, { ...topUp, amount: 1.5 }))).toEqual([
    400,
    'ERR_REQUEST_INVALID',
  ])
  const fleet = await (await edge.get('/v1/fleet', operator)).json()
  expect(fleet.runners).toMatchObject([{ status: { id: 'runner-1' }, draining: false }])
})
