import { Hono } from 'hono'
import type { RegistryDeps } from '../deps.ts'
import { cachedJson } from '../http/answer.ts'
import type { RegistryEnv } from '../http/context.ts'
import { listRevocations } from '../identity/revoke.ts'

/** Seconds for which the issuer's keys may be remembered. */
const KEYS_SECONDS = 300

/** What other servers need of this one: is it up, whose signatures are its, which tokens no longer count. */
export const serviceRoutes = (deps: RegistryDeps) =>
  new Hono<RegistryEnv>()
    .get('/healthz', async (c) => {
      await deps.catalogue.query('SELECT 1')
      return c.json({ ok: true })
    })
    .get('/.well-known/jwks.json', (c) =>
      cachedJson(c, { keys: [deps.issuer.publicJwk] }, `public, max-age=${KEYS_SECONDS}`),
    )
    .get('/v1/revocations', async (c) => cachedJson(c, await listRevocations(deps), 'no-cache'))
