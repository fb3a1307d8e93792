import { GraftError } from '@graft/sdk/format/errors.ts'
import { Hono } from 'hono'
import * as z from 'zod'
import type { RegistryDeps } from '../deps.ts'
import { readJson } from '../http/body.ts'
import type { RegistryEnv } from '../http/context.ts'
import { findOrg } from '../identity/accounts.ts'
import { authenticate } from '../identity/authenticate.ts'
import { listPublisherKeys, putPublisherKey } from '../identity/publisher-keys.ts'

const coordinate = z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'must be 32 bytes in base64url')

/** A PublisherKey as the caller has it. The private member "d" is no known field, so it is refused. */
const keySchema = z.strictObject({
  jwk: z.strictObject({
    kty: z.enum(['OKP', 'EC']),
    crv: z.enum(['Ed25519', 'P-256']),
    x: coordinate,
    y: coordinate.exactOptional(),
    kid: z.string().max(64).optional(),
    alg: z.enum(['Ed25519', 'EdDSA', 'ES256']).optional(),
    use: z.literal('sig').optional(),
    key_ops: z.array(z.string().max(16)).max(4).optional(),
    ext: z.boolean().optional(),
  }),
  kid: z.string().max(64).optional(),
  status: z.enum(['active', 'revoked']).optional(),
  createdAt: z.string().max(40).optional(),
})

export const keyRoutes = (deps: RegistryDeps) =>
  new Hono<RegistryEnv>()
    .post('/v1/orgs/:org/keys', async (c) => {
      const caller = await authenticate(deps, c)
      const { jwk, kid, status } = await readJson(c, keySchema, deps.limits.json)
      const org = c.req.param('org')
      return c.json(await putPublisherKey(deps, caller, org, { jwk, kid, status }))
    })
    .get('/v1/orgs/:org/keys', async (c) => {
      const org = c.req.param('org')
      if ((await findOrg(deps, org)) === null)
        throw new GraftError('ERR_NAME_UNKNOWN', `organisation "${org}" is not known here`)
      return c.json({ keys: await listPublisherKeys(deps, org) }, 200, {
        'cache-control': 'no-cache',
      })
    })
