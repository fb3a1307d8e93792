import { expect, it } from 'vitest'
import { listen } from '../../infra/listen.ts'
import { fuzzOnNode, openOnNode } from './on-node.ts'
import { fuzzOnWorkerd } from './on-workerd.ts'
import { RAW_REQUESTS, sendRaw } from './raw.ts'
import { fillPath, listRoutes } from './routes.ts'

/** Milliseconds for an answer: tests share the machine. `npm run fuzz` on a quiet one allows a second. */
const SLOW = 10_000

it('refuses hostile requests to every route in one shape, and tells no tenant of another', async () => {
  const report = await fuzzOnNode({ seed: 1, requests: 3000, slow: SLOW })
  expect(report.broken).toEqual([])
  expect(report.compared).toBeGreaterThan(100)
  // What no request gets through to is not tested by any of them.
  expect(report.neverTaken.length).toBeLessThan(report.routes / 3)
  expect(report.statuses[200]).toBeGreaterThan(300)
})

it('does so on workerd', async () => {
  const report = await fuzzOnWorkerd({ seed: 2, requests: 400, slow: SLOW })
  expect(report.broken).toEqual([])
})

it('knows every route of the app, with parameters that can be filled in', async () => {
  const { registry, close } = await openOnNode()
  const paths = listRoutes(registry.app).map(({ method, path }) => `${method} ${path}`)
  expect(paths).toContain('GET /v1/blobs/:digest')
  expect(paths).toContain('GET /tile/:path{.+}')
  expect(paths.every((path) => !fillPath(path, () => 'x').includes(':'))).toBe(true)
  await close()
})

it('answers what is no HTTP, and lengths that lie, with a refusal or not at all, and lives on', async () => {
  const { registry, close, defects } = await openOnNode()
  const server = await listen(registry.app, { port: 0, what: 'a port', advice: 'free one' })
  const port = Number(new URL(server.url).port)
  const heard = await Promise.all(RAW_REQUESTS.map((text) => sendRaw(port, text, 500)))
  for (const [i, answer] of heard.entries())
    expect(answer, RAW_REQUESTS[i]!.slice(0, 200)).not.toMatch(/^HTTP\/1\.1 5\d\d/)
  expect(defects()).toEqual([])
  expect((await fetch(`${server.url}/healthz`)).status).toBe(200)
  await server.drain(0)
  await close()
})
