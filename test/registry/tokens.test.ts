import { createIssuerFeed } from '@graft/edge/auth/issuer-feed.ts'
import { afterAll, expect, it } from 'vitest'
import { createEdgeOfTests } from '../edge/helpers/edge.ts'
import { listen } from '../edge/helpers/listen.ts'
import { ISSUER, openHouse, openRegistry } from './fixtures.ts'
import { tokensContract } from './tokens.ts'

const opening = openRegistry()
afterAll(async () => (await opening).close())

tokensContract('Node', async () => opening)

it('a revoked, a renewed and a mass-revoked token are refused by a real edge within 10 s of real time', async () => {
  const house = await openHouse()
  const server = await listen(house.registry.app)
  const edge = await createEdgeOfTests({
    ...{ registryUrl: server.url, fetch, issuerName: ISSUER },
    issuer: createIssuerFeed({ registryUrl: server.url, fetch, clock: () => new Date() }),
  })
  const client = await listen(edge.app)
  const calls = async (token: string) =>
    (await fetch(`${client.url}/v1/balance`, { headers: { authorization: `Bearer ${token}` } }))
      .status
  const make = () => house.tokenWith(['infer', 'read', 'ledger'])
  const [revoked, renewed, mass] = [await make(), await make(), await make()]
  for (const { token } of [revoked, renewed, mass]) expect(await calls(token)).toBe(200)

  /** Milliseconds until the edge refuses, asked twenty times a second. */
  async function refusedAfter(token: string): Promise<number> {
    const start = performance.now()
    while ((await calls(token)) === 200) {
      if (performance.now() - start > 10_000) throw new Error('still accepted after 10 s')
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    expect(await calls(token)).toBe(401)
    return performance.now() - start
  }
  await house.call('DELETE', `/v1/tokens/${revoked.jti}`, { token: house.token })
  const { body } = await house.call('POST', `/v1/tokens/${renewed.jti}/rotate`, {
    token: house.token,
  })
  const times = await Promise.all([refusedAfter(revoked.token), refusedAfter(renewed.token)])
  expect(await calls(body.token)).toBe(200)
  await house.call('DELETE', '/v1/orgs/acme/tokens', { token: house.token })
  times.push(await refusedAfter(mass.token))
  expect(Math.max(...times)).toBeLessThan(10_000)
  await client.close()
  await server.close()
  await house.close()
}, 40_000)
