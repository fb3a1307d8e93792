import { createWorkersEdge, type EdgeBindings } from '@graft/edge/workers/create-workers-edge.ts'
import { durableBooks } from '@graft/edge/workers/tenant-book.ts'
import { errorResponse } from '@graft/sdk/format/errors.ts'

export { FleetObject } from '@graft/edge/workers/fleet-object.ts'
export { TenantBookObject } from '@graft/edge/workers/tenant-book.ts'

/*
 * Runs in workerd: the edge itself, and below /book its tenants' books, spoken to by JSON, so that the suite which
 * Node's books pass can be run against Durable Objects. `room` keeps the books of two tests apart.
 */
export default {
  async fetch(request: Request, env: EdgeBindings, ctx: ExecutionContext): Promise<Response> {
    if (new URL(request.url).pathname !== '/book') {
      edge ??= createWorkersEdge(env)
      return (await edge).fetch(request, env, ctx)
    }
    try {
      return await callBook(request, env)
    } catch (e) {
      const { status, body } = errorResponse(e)
      return Response.json(body, { status })
    }
  },
}
let edge: ReturnType<typeof createWorkersEdge> | null = null

async function callBook(request: Request, env: EdgeBindings): Promise<Response> {
  const { room, tenant, name, input } = (await request.json()) as {
    room: string
    tenant: string
    name: 'balance'
    input: []
  }
  const objects = env.TENANT_BOOKS
  const apart = {
    idFromName: (text: string) => objects.idFromName(`${room}/${text}`),
    get: (id: DurableObjectId) => objects.get(id),
  } as typeof objects
  const book = durableBooks(apart, 'USD').book(tenant)
  return Response.json((await book[name](...input)) ?? null)
}
