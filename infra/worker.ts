import { createWorkersEdge, type EdgeBindings } from '@graft/edge/workers/create-workers-edge.ts'
import {
  createWorkersRegistry,
  type WorkersRegistryBindings,
} from '@graft/registry/workers/create-workers-registry.ts'
import { errorResponse, expected, GraftError } from '@graft/sdk/format/errors.ts'
import { roomOfPath } from './room-of-path.ts'

export { FleetObject } from '@graft/edge/workers/fleet-object.ts'
export { TenantBookObject } from '@graft/edge/workers/tenant-book.ts'

/** What wrangler.toml binds; a Worker of one room has only that room's part. */
type Bindings = Omit<WorkersRegistryBindings, 'ISSUER_NAME'> &
  EdgeBindings & {
    /** "both", or the one room that this Worker is. */
    ROOMS: string
  }

type Handler = (request: Request, env: Bindings, ctx: ExecutionContext) => Promise<Response>

interface Rooms {
  fetch: Handler
  sweep(): Promise<number>
}

const nothingToSweep = async () => 0

const openRegistry = (env: Bindings) => createWorkersRegistry({ ...env, ISSUER_NAME: env.ISSUER })

async function openRooms(env: Bindings): Promise<Rooms> {
  if (env.ROOMS === 'registry') {
    const { app, sweep } = await openRegistry(env)
    return { fetch: async (...call) => app.fetch(...call), sweep }
  }
  if (env.ROOMS === 'edge') {
    const edge = await createWorkersEdge(env)
    return { fetch: async (...call) => edge.fetch(...call), sweep: nothingToSweep }
  }
  if (env.ROOMS !== 'both')
    throw new GraftError(
      'ERR_INTERNAL',
      expected('the variable ROOMS', '"both", "registry" or "edge"', env.ROOMS),
    )
  const { app: registry, sweep } = await openRegistry(env)
  // A call to the registry beside us needs no network.
  const beside = {
    fetch: async (input: RequestInfo | URL, init?: RequestInit) =>
      registry.fetch(new Request(input, init)),
  } as Fetcher
  const edge = await createWorkersEdge({ ...env, REGISTRY: beside })
  return {
    async fetch(request, ...rest) {
      const { pathname } = new URL(request.url)
      if (pathname === '/healthz') {
        const answer = await registry.fetch(request, ...rest)
        if (!answer.ok) return answer
      }
      const room = roomOfPath(pathname) === 'registry' ? registry : edge
      return room.fetch(request, ...rest)
    },
    sweep,
  }
}

/** Once per isolate: caches and rate limits live in the rooms. */
let opening: Promise<Rooms> | null = null
function rooms(env: Bindings): Promise<Rooms> {
  opening ??= openRooms(env).catch((error) => {
    opening = null
    throw error
  })
  return opening
}

async function answer(request: Request, env: Bindings, ctx: ExecutionContext): Promise<Response> {
  try {
    return await (await rooms(env)).fetch(request, env, ctx)
  } catch (error) {
    console.error(error)
    const { status, body } = errorResponse(error)
    return Response.json(body, { status })
  }
}

export default {
  fetch(request, env, ctx) {
    const answering = answer(request, env, ctx)
    // Other requests may wait for what this one loads: it must not stop half-way when its client goes away.
    ctx.waitUntil(answering)
    return answering
  },
  async scheduled(_event, env, ctx) {
    ctx.waitUntil((await rooms(env)).sweep())
  },
} satisfies ExportedHandler<Bindings>
