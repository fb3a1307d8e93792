import type { WhoAmI } from '@graft/sdk/protocol/registry-api.ts'
import { SCOPES } from '@graft/sdk/protocol/tokens.ts'
import { Hono } from 'hono'
import * as z from 'zod'
import type { RegistryDeps } from '../deps.ts'
import { checked, readJson, readQuery } from '../http/body.ts'
import type { RegistryEnv } from '../http/context.ts'
import { createOrg, createToken, createUser, setUp } from '../identity/accounts.ts'
import { authenticate } from '../identity/authenticate.ts'
import { MAX_TOKEN_SECONDS } from '../identity/mint.ts'
import { nameSchema } from '../identity/names.ts'
import { revokeAllTokens, revokeToken } from '../identity/revoke.ts'
import { listTokens, rotateToken } from '../identity/tokens.ts'
import { deviceRoutes } from './device.ts'
import { memberRoutes } from './members.ts'
import { oauthRoutes } from './oauth.ts'
import { oidcSignInRoutes } from './oidc-sign-in.ts'
import { trustedPublisherRoutes } from './trusted-publishers.ts'

const setupSchema = z.strictObject({ code: z.string().max(256), user: nameSchema, org: nameSchema })
const userSchema = z.strictObject({ user: nameSchema, org: nameSchema })
const orgSchema = z.strictObject({ name: nameSchema })
const tokenSchema = z.strictObject({
  org: nameSchema,
  name: z.string().min(1).max(100),
  scopes: z.array(z.enum(SCOPES)).min(1).max(SCOPES.length),
  expiresIn: z.number().int().min(1).max(MAX_TOKEN_SECONDS),
})

const pageLimit = z
  .string()
  .regex(/^[1-9]\d{0,2}$/, 'must be 1 to 999')
  .transform(Number)

/** Secrets in an answer are nobody's to keep. */
const SECRET = { 'cache-control': 'no-store' }

export const accountRoutes = (deps: RegistryDeps) =>
  new Hono<RegistryEnv>()
    .route('/', oauthRoutes(deps))
    .route('/', deviceRoutes(deps))
    .route('/', oidcSignInRoutes(deps))
    .route('/', memberRoutes(deps))
    .route('/', trustedPublisherRoutes(deps))
    .post('/v1/setup', async (c) => {
      const request = await readJson(c, setupSchema, deps.limits.json)
      return c.json(await setUp(deps, request), 200, SECRET)
    })
    .get('/v1/whoami', async (c) => {
      const { sub, tenant, scopes, user } = await authenticate(deps, c)
      const orgs = await deps.catalogue.query<WhoAmI['orgs'][number]>(
        'SELECT org AS name, role FROM members WHERE user = ? ORDER BY org',
        [user],
      )
      return c.json({ sub, tenant, scopes, orgs } satisfies WhoAmI, 200, SECRET)
    })
    .post('/v1/users', async (c) => {
      const caller = await authenticate(deps, c)
      const request = await readJson(c, userSchema, deps.limits.json)
      return c.json(await createUser(deps, caller, request), 200, SECRET)
    })
    .post('/v1/orgs', async (c) => {
      const caller = await authenticate(deps, c)
      const { name } = await readJson(c, orgSchema, deps.limits.json)
      return c.json(await createOrg(deps, caller, name))
    })
    .delete('/v1/orgs/:org/tokens', async (c) => {
      const caller = await authenticate(deps, c)
      return c.json(await revokeAllTokens(deps, caller, c.req.param('org')), 200, SECRET)
    })
    .post('/v1/tokens', async (c) => {
      const caller = await authenticate(deps, c)
      const request = await readJson(c, tokenSchema, deps.limits.json)
      const scopes = [...new Set(request.scopes)]
      return c.json(await createToken(deps, caller, { ...request, scopes }), 200, SECRET)
    })
    .get('/v1/tokens', async (c) => {
      const caller = await authenticate(deps, c)
      const { after, limit } = readQuery(c, ['after', 'limit'])
      const count = checked(limit ?? '100', pageLimit, 'query: limit')
      return c.json(
        await listTokens(deps, caller, { after: after ?? null, limit: count }),
        200,
        SECRET,
      )
    })
    .post('/v1/tokens/:jti/rotate', async (c) => {
      const caller = await authenticate(deps, c)
      return c.json(await rotateToken(deps, caller, c.req.param('jti')), 200, SECRET)
    })
    .delete('/v1/tokens/:jti', async (c) => {
      await revokeToken(deps, await authenticate(deps, c), c.req.param('jti'))
      return c.json({})
    })
