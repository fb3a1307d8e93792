import { GraftError } from '@graft/sdk/format/errors.ts'
import { Hono } from 'hono'
import { authenticate } from '../auth/authenticate.ts'
import { resolveModel } from '../calls/resolve-model.ts'
import type { EdgeContext, EdgeEnv } from '../context.ts'
import { liveBases } from '../fleet/fleet.ts'

/** OpenAI's model object, with vLLM's `root` and `parent`. A package states no time of its own, so `created` is 0. */
const model = (id: string, owner: string, parent: string | null) => ({
  id,
  object: 'model' as const,
  created: 0,
  owned_by: owner,
  root: parent ?? id,
  parent,
})

/** GET /v1/models: what the caller could call now. */
export const modelRoutes = (edge: EdgeContext) =>
  new Hono<EdgeEnv>()
    .get('/v1/models', async (c) => {
      const caller = await authenticate(edge, c.req.header('authorization'), 'infer')
      const bases = liveBases(await edge.fleet.runners())
      const live = new Set<string>(bases.map(({ digest }) => digest))
      const adapters = (await edge.registry.packages(caller)).filter(
        ({ latest, base }) => latest !== null && live.has(base.digest),
      )
      return c.json({
        object: 'list',
        data: [
          ...bases.map(({ name }) => model(name, 'base', null)),
          ...adapters.map(({ name, latest, base }) =>
            model(`${name}@${latest}`, name.slice(1).split('/')[0]!, base.name),
          ),
        ],
      })
    })
    // Ids hold "@" and "/", encoded or not.
    .get('/v1/models/:id{.+}', async (c) => {
      const caller = await authenticate(edge, c.req.header('authorization'), 'infer')
      const id = decodeURIComponent(c.req.path.slice('/v1/models/'.length))
      const { base, adapters } = await resolveModel(edge, caller, id)
      const [first] = adapters
      if (!first) return c.json(model(base.name, 'base', null))
      c.header('x-graft-adapters', adapters.map(({ digest }) => digest).join(', '))
      return c.json(model(id, first.package.slice(1).split('/')[0]!, base.name))
    })
    .onError((error) => {
      if (error instanceof URIError)
        throw new GraftError('ERR_REQUEST_INVALID', 'the model id is not valid URL encoding')
      throw error
    })
