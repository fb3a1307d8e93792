import { type TenantBooks, tenantBook } from '@graft/edge/ledger/tenant-book.ts'
import { type ErrorBody, GraftError } from '@graft/sdk/format/errors.ts'
import { exportSigningKey, generateSigningKey } from '@graft/sdk/format/jws.ts'
import { convertV4MiniflareOptions, Miniflare } from 'miniflare'
import { bundleWorker } from '../bundle-worker.ts'
import { createRegistryOfTests, ISSUER } from '../edge/helpers/registry.ts'

/** The edge in workerd with Durable Objects in memory, and its books, called through it. */
export async function openWorkerd() {
  const bundle = await bundleWorker('test/workers/edge-worker.ts')
  const registry = await createRegistryOfTests()
  const fleetKey = await generateSigningKey()
  const object = (className: string) => ({ className, useSQLite: true })
  const miniflare = new Miniflare(
    convertV4MiniflareOptions({
      modules: [{ type: 'ESModule', path: 'worker.mjs', contents: bundle }],
      compatibilityDate: '2026-08-04',
      durableObjects: { TENANT_BOOKS: object('TenantBookObject'), FLEET: object('FleetObject') },
      durableObjectsPersist: false,
      bindings: {
        RECEIPT_KEY: JSON.stringify(await exportSigningKey(await generateSigningKey())),
        FLEET_KEY: JSON.stringify(await exportSigningKey(fleetKey)),
        REGISTRY_URL: ISSUER,
        ISSUER,
        OPERATOR_TENANT: 'operator',
      },
      serviceBindings: {
        REGISTRY: (request: { url: string; method: string; headers: Iterable<[string, string]> }) =>
          registry.fetch(request.url, {
            method: request.method,
            headers: [...request.headers],
          }) as never,
      },
    }),
  )
  await miniflare.ready
  const request = (path: string, init?: RequestInit): Promise<Response> =>
    miniflare.dispatchFetch(`http://edge.test${path}`, init as never) as never
  /** @param room keeps the books of two tests apart */
  const books = (room: string): TenantBooks => ({
    book: (tenant) =>
      tenantBook(async (name, input) => {
        const body = JSON.stringify({ room, tenant, name, input })
        const response = await request('/book', { method: 'POST', body })
        const answer = await response.json()
        if (response.ok) return answer
        const { error } = answer as ErrorBody
        throw new GraftError(error.code, error.message)
      }),
  })
  return { app: { request }, books, registry, fleetKey, close: () => miniflare.dispose() }
}
