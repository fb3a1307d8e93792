import {
  createWorkersRegistry,
  type WorkersRegistryBindings,
} from '@graft/registry/workers/create-workers-registry.ts'
import { createD1Catalogue } from '@graft/registry/workers/d1-catalogue.ts'
import { createR2Blobs } from '@graft/registry/workers/r2-blobs.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { errorResponse } from '@graft/sdk/format/errors.ts'

/*
 * Runs in workerd: the registry itself, and below /store its two stores, spoken to by one header, so that the suite
 * which Node's stores pass can be run against D1 and R2.
 */
export default {
  async fetch(request: Request, env: WorkersRegistryBindings): Promise<Response> {
    if (!new URL(request.url).pathname.startsWith('/store')) {
      registry ??= createWorkersRegistry(env)
      return (await registry).app.fetch(request)
    }
    try {
      return await callStore(request, env)
    } catch (e) {
      const { status, body } = errorResponse(e)
      return Response.json(body, { status })
    }
  },
}
let registry: ReturnType<typeof createWorkersRegistry> | null = null

async function callStore(request: Request, env: WorkersRegistryBindings): Promise<Response> {
  const [method, ...args] = JSON.parse(decodeURIComponent(request.headers.get('x-call')!)) as [
    string,
    ...never[],
  ]
  const blobs = createR2Blobs(env.BLOBS)
  const catalogue = createD1Catalogue(env.DB)
  if (method === 'query') return Response.json(await catalogue.query(args[0]!, args[1]))
  if (method === 'batch') return Response.json(await catalogue.batch(args[0]!))
  if (method === 'head') return Response.json(await blobs.head(args[0]!))
  if (method === 'listParts') return Response.json(await blobs.listParts(args[0]!, args[1]!))
  if (method === 'listStaging') return Response.json(await blobs.listStaging())
  if (method === 'get' || method === 'getStaged') {
    const body = await (method === 'get'
      ? blobs.get(args[0]!, args[1] ?? undefined)
      : blobs.getStaged(args[0]!, args[1]!, args[2] ?? undefined))
    return body === null ? new Response(null, { status: 204 }) : new Response(body)
  }
  const body = request.body ?? new Response('').body!
  if (method === 'stage') {
    const [upload, digest, size] = args as unknown as [string, Digest, number]
    await blobs.stage(upload, digest, size, body)
  } else if (method === 'putPart') {
    const [upload, digest, number, size] = args as unknown as [string, Digest, number, number]
    await blobs.putPart(upload, digest, number, size, body)
  } else if (method === 'joinParts') {
    const [upload, digest, size, count] = args as unknown as [string, Digest, number, number]
    await blobs.joinParts(upload, digest, size, count)
  } else if (method === 'promote') await blobs.promote(args[0]!, args[1]!)
  else if (method === 'discard') await blobs.discard(args[0]!)
  else if (method === 'delete') await blobs.delete(args[0]!)
  else throw new TypeError(`no store call ${method}`)
  return Response.json(null)
}
