import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { isTag } from '@graft/sdk/format/parse-reference.ts'
import { Hono } from 'hono'
import * as z from 'zod'
import type { RegistryDeps } from '../deps.ts'
import { cacheControl, cachedJson, MUTABLE_SECONDS } from '../http/answer.ts'
import { readJson, readQuery } from '../http/body.ts'
import type { RegistryEnv } from '../http/context.ts'
import { packageName } from '../http/package-name.ts'
import { authenticate, authenticateReader } from '../identity/authenticate.ts'
import { moveTag } from '../packages/move-tag.ts'
import { searchPackages } from '../packages/search.ts'
import { readPackage } from '../packages/versions.ts'

const tagSchema = z.strictObject({ version: z.string().min(1).max(256) })

export const packageRoutes = (deps: RegistryDeps) =>
  new Hono<RegistryEnv>()
    .get('/v1/packages', async (c) => {
      const { org, q } = readQuery(c, ['org', 'q'])
      const reader = await authenticateReader(deps, c)
      const question = { org: org ?? null, words: q?.trim() || null }
      const packages = await searchPackages(deps, reader, question)
      return cachedJson(c, { packages }, cacheControl(MUTABLE_SECONDS, reader.tenant === null))
    })
    .get('/v1/packages/:scope/:name', async (c) => {
      const reader = await authenticateReader(deps, c)
      const record = await readPackage(deps, reader, packageName(c))
      return cachedJson(c, record, cacheControl(MUTABLE_SECONDS, reader.tenant === null))
    })
    .put('/v1/packages/:scope/:name/tags/:tag', async (c) => {
      const caller = await authenticate(deps, c)
      const tag = c.req.param('tag')
      if (!isTag(tag)) throw new GraftError('ERR_REQUEST_INVALID', expected('tag', 'a tag', tag))
      const { version } = await readJson(c, tagSchema, deps.limits.json)
      await moveTag(deps, caller, packageName(c), tag, version)
      return c.json({})
    })
