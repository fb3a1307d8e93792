import { Hono } from 'hono'
import * as z from 'zod'
import type { RegistryDeps } from '../deps.ts'
import { readJson } from '../http/body.ts'
import type { RegistryEnv } from '../http/context.ts'
import { packageName } from '../http/package-name.ts'
import { authenticate } from '../identity/authenticate.ts'
import {
  addTrustedPublisher,
  listTrustedPublishers,
  removeTrustedPublisher,
} from '../identity/oidc/trusted-publishers.ts'

const claim = z
  .string()
  .min(1)
  .max(400)
  .regex(/^[^*]+\*?$/, 'may have one "*", at its end')

const ruleSchema = z.strictObject({
  issuer: z.string().max(400),
  claims: z
    .record(z.string().min(1).max(100), claim)
    .refine((claims) => Object.keys(claims).length <= 10, 'must be at most 10'),
})

/** Which CI workloads may publish a package. */
export const trustedPublisherRoutes = (deps: RegistryDeps) =>
  new Hono<RegistryEnv>()
    .get('/v1/packages/:scope/:name/publishers', async (c) => {
      const caller = await authenticate(deps, c)
      const publishers = await listTrustedPublishers(deps, caller, packageName(c))
      return c.json({ publishers }, 200, { 'cache-control': 'no-store' })
    })
    .post('/v1/packages/:scope/:name/publishers', async (c) => {
      const caller = await authenticate(deps, c)
      const request = await readJson(c, ruleSchema, deps.limits.json)
      return c.json(await addTrustedPublisher(deps, caller, packageName(c), request))
    })
    .delete('/v1/packages/:scope/:name/publishers/:id', async (c) => {
      const caller = await authenticate(deps, c)
      await removeTrustedPublisher(deps, caller, packageName(c), c.req.param('id'))
      return c.json({})
    })
