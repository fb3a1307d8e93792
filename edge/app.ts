import { errorResponse, GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import { Hono } from 'hono'
import { createContext, type EdgeEnv } from './context.ts'
import type { EdgeDeps } from './deps.ts'
import { fleetRoutes } from './routes/fleet.ts'
import { ledgerRoutes } from './routes/ledger.ts'
import { modelRoutes } from './routes/models.ts'
import { openaiCallRoutes } from './routes/openai-calls.ts'
import { operationRoutes } from './routes/operations.ts'

export type { EdgeDeps, EdgeLimits } from './deps.ts'

/** The edge as one fetch handler: OpenAI's surface, the ledger's, the fleet's. */
export function createEdge(deps: EdgeDeps) {
  const edge = createContext(deps)
  return new Hono<EdgeEnv>()
    .use(async (c, next) => {
      const requestId = `req_${edge.randomId()}`
      c.set('requestId', requestId)
      await next()
      c.header('x-request-id', requestId)
      const labels = { path: c.req.routePath, status: String(c.res.status) }
      edge.metrics.add('graft_edge_requests_total', labels)
    })
    .route('/', operationRoutes(edge))
    .route('/', openaiCallRoutes(edge))
    .route('/', modelRoutes(edge))
    .route('/', ledgerRoutes(edge))
    .route('/', fleetRoutes(edge))
    .notFound((c) => {
      throw new GraftError('ERR_ROUTE_UNKNOWN', `there is no ${c.req.method} ${c.req.path} here`)
    })
    .onError((error, c) => {
      const requestId = c.get('requestId')
      const { status, body } = errorResponse(error, requestId)
      if (status >= 500) {
        const { message, cause } = error
        edge.log({
          event: 'error',
          requestId,
          code: body.error.code,
          message,
          cause: String(cause),
        })
      }
      const headers: Record<string, string> = {}
      if (isGraftError(error) && error.retryAfter !== undefined)
        headers['retry-after'] = String(error.retryAfter)
      return c.json(body, status as 500, headers)
    })
}
