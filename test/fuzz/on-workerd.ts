import { openWorkerd } from '../contract/registry-workerd.ts'
import { ISSUER, SETUP_CODE } from '../registry/fixtures.ts'
import { type FuzzOptions, type FuzzReport, fuzzRegistry } from './fuzz-registry.ts'
import { openOnNode } from './on-node.ts'
import { listRoutes } from './routes.ts'

/** What the client that speaks to workerd says itself, and lets nobody else say. */
const TRANSPORT = ['content-length', 'transfer-encoding']

/** Bytes: workerd closes the connection after a refusal with more than this unread, and the client sees no answer. */
const MAX_BODY = 60_000

/** The same over the registry in workerd with D1 and R2. The routes are those of the app, which is one for both. */
export async function fuzzOnWorkerd(options: FuzzOptions): Promise<FuzzReport> {
  const node = await openOnNode()
  const routes = listRoutes(node.registry.app)
  await node.close()
  const workerd = await openWorkerd(SETUP_CODE, ISSUER)
  const request = (path: string, init: RequestInit = {}) => {
    const headers = Object.entries(init.headers ?? {}).filter(([name]) => !TRANSPORT.includes(name))
    return workerd.app.request(path, { ...init, headers, redirect: 'manual' })
  }
  try {
    return await fuzzRegistry({ request: request as never }, routes, {
      ...options,
      maxBody: MAX_BODY,
    })
  } finally {
    await workerd.close()
  }
}
