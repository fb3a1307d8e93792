import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { verifyJwt } from '@graft/sdk/format/jws.ts'
import type { FleetClaims } from '@graft/sdk/protocol/tokens.ts'
import { Hono } from 'hono'
import { bearerToken } from '../auth/authenticate.ts'
import type { EdgeContext, EdgeEnv } from '../context.ts'
import { heartbeatSchema } from '../fleet/heartbeat-schema.ts'
import { parse } from '../openai/parse-body.ts'
import { authenticateOperator } from './ledger.ts'
import { readJson } from './read-json.ts'

/** A heartbeat lists a runner's residents; ten thousand of them are about a megabyte. */
const HEARTBEAT_BYTES = 2_000_000
/** Who a runner's fleet token must be meant for. */
const EDGE_AUDIENCE = 'edge'

/** Heartbeats in, the operator's view out. */
export const fleetRoutes = (edge: EdgeContext) =>
  new Hono<EdgeEnv>()
    .post('/v1/fleet/heartbeat', async (c) => {
      const { iss, role } = await verifyJwt<FleetClaims>(
        bearerToken(c.req.header('authorization')),
        'graft-fleet+jwt',
        [edge.fleetKey.publicJwk],
        { now: edge.clock(), audience: EDGE_AUDIENCE },
      )
      if (role !== 'runner')
        throw new GraftError('ERR_FORBIDDEN', expected('fleet token: role', '"runner"', role))
      const beat = parse(heartbeatSchema, await readJson(c.req.raw, HEARTBEAT_BYTES))
      if (iss !== beat.status.id)
        throw new GraftError('ERR_FORBIDDEN', expected('status.id', `"${iss}"`, beat.status.id))
      return c.json(await edge.fleet.heartbeat(beat))
    })
    .get('/v1/fleet', async (c) => {
      await authenticateOperator(edge, c.req.header('authorization'))
      const runners = (await edge.fleet.runners()).map(({ url, draining, seenAt, status }) => ({
        url,
        draining,
        seenAt: new Date(seenAt).toISOString(),
        openCalls: edge.open.count(status.id),
        status,
      }))
      return c.json({ runners, ejected: await edge.fleet.ejected() })
    })
