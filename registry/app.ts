import { errorResponse, GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import { Hono } from 'hono'
import { newId, nowIso, type RegistryDeps } from './deps.ts'
import { unlessGone } from './http/client-gone.ts'
import type { RegistryEnv } from './http/context.ts'
import { coverLeaves } from './log/checkpoint.ts'
import { notFoundPage } from './pages/error-page.ts'
import { pageResponse, wantsPage } from './pages/respond.ts'
import { accountRoutes } from './routes/accounts.ts'
import { baseRoutes } from './routes/bases.ts'
import { keyRoutes } from './routes/keys.ts'
import { logRoutes } from './routes/log.ts'
import { packageRoutes } from './routes/packages.ts'
import { pageRoutes } from './routes/pages.ts'
import { publishRoutes } from './routes/publish.ts'
import { pullRoutes } from './routes/pull.ts'
import { resolveRoutes } from './routes/resolve.ts'
import { serviceRoutes } from './routes/service.ts'
import { versionStateRoutes } from './routes/version-states.ts'

/** The registry's HTTP surface, as @graft/sdk/protocol/registry-api.ts states it; `.fetch` is the server. */
export function createRegistry(deps: RegistryDeps) {
  const app = new Hono<RegistryEnv>()
  app.use(async (c, next) => {
    // Hono's router runs this twice where the path is "/*" to the letter.
    if (c.get('requestId')) return next()
    const requestId = newId(deps)
    const start = deps.clock().getTime()
    c.set('requestId', requestId)
    await next()
    c.header('x-request-id', requestId)
    deps.log?.({
      at: nowIso(deps),
      requestId,
      method: c.req.method,
      path: c.req.path,
      status: c.res.status,
      ms: deps.clock().getTime() - start,
      ...(isGraftError(c.error) ? { code: c.error.code } : {}),
      ...(c.error && !isGraftError(c.error) ? { code: 'ERR_INTERNAL', error: c.error } : {}),
    })
  })
  // Whatever a change logged is under a signed checkpoint before the change is answered.
  app.use(async (c, next) => {
    await next()
    if (c.req.method !== 'GET' && c.req.method !== 'HEAD' && c.res.ok) await coverLeaves(deps)
  })
  app.onError(async (thrown, c) => {
    const e = await unlessGone(c, thrown)
    c.error = e
    const { status, body } = errorResponse(e, c.get('requestId'))
    if (isGraftError(e) && e.code === 'ERR_UNAUTHENTICATED') c.header('www-authenticate', 'Bearer')
    c.header('cache-control', 'no-store')
    return c.json(body, status as 500)
  })
  app.notFound((c) => {
    if (wantsPage(c)) return pageResponse(c, notFoundPage(`There is no page ${c.req.path}`), 404)
    const e = new GraftError('ERR_ROUTE_UNKNOWN', `no route ${c.req.method} ${c.req.path}`)
    const { body } = errorResponse(e, c.get('requestId'))
    return c.json(body, 404, { 'cache-control': 'no-store' })
  })
  for (const routes of [
    serviceRoutes,
    accountRoutes,
    keyRoutes,
    baseRoutes,
    publishRoutes,
    packageRoutes,
    versionStateRoutes,
    resolveRoutes,
    pullRoutes,
    logRoutes,
    pageRoutes,
  ])
    app.route('/', routes(deps))
  return app
}
