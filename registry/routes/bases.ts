import { parseDigest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { Hono } from 'hono'
import * as z from 'zod'
import type { RegistryDeps } from '../deps.ts'
import { cacheControl, cachedJson, IMMUTABLE_SECONDS } from '../http/answer.ts'
import { readJson, readQuery } from '../http/body.ts'
import type { RegistryEnv } from '../http/context.ts'
import { digestSchema, sizeSchema } from '../http/schemas.ts'
import { authenticate } from '../identity/authenticate.ts'
import { findBase, listBases, registerBase } from '../packages/bases.ts'

/** `identity` is checked by the format's own parser. */
const baseSchema = z.strictObject({
  digest: digestSchema,
  identity: z.unknown(),
  tensors: z
    .array(
      z.strictObject({
        name: z.string().min(1).max(512),
        dtype: z.string().min(1).max(16),
        shape: z.array(sizeSchema).max(8),
      }),
    )
    .min(1)
    .max(100_000),
})

export const baseRoutes = (deps: RegistryDeps) =>
  new Hono<RegistryEnv>()
    .post('/v1/bases', async (c) => {
      const caller = await authenticate(deps, c)
      const request = await readJson(c, baseSchema, deps.limits.manifest)
      return c.json(await registerBase(deps, caller, request))
    })
    .get('/v1/bases/:digest', async (c) => {
      const digest = parseDigest(c.req.param('digest'), 'base')
      const base = await findBase(deps, digest)
      if (base === null)
        throw new GraftError('ERR_BASE_UNKNOWN', `base ${digest} is not registered here`)
      return cachedJson(c, base, cacheControl(IMMUTABLE_SECONDS, true))
    })
    .get('/v1/bases', async (c) => {
      const { name } = readQuery(c, ['name'])
      return cachedJson(c, { bases: await listBases(deps, name ?? null) }, 'no-cache')
    })
