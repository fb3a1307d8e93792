import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { parseAdapterReference } from '@graft/sdk/format/parse-reference.ts'
import { Hono } from 'hono'
import type { RegistryDeps } from '../deps.ts'
import { cacheControl, cachedJson, IMMUTABLE_SECONDS, MUTABLE_SECONDS } from '../http/answer.ts'
import { readQuery } from '../http/body.ts'
import type { RegistryEnv } from '../http/context.ts'
import { authenticateReader } from '../identity/authenticate.ts'
import { DEMAND_NAMES, parseDemands } from '../resolve/parse-demands.ts'
import { resolveReference } from '../resolve/resolve-reference.ts'

export const resolveRoutes = (deps: RegistryDeps) =>
  new Hono<RegistryEnv>().get('/v1/resolve', async (c) => {
    const { ref, ...texts } = readQuery(c, ['ref', ...DEMAND_NAMES])
    if (ref === undefined)
      throw new GraftError('ERR_REQUEST_INVALID', expected('query: ref', '@scope/name@range', ref))
    const reference = parseAdapterReference(ref)
    const demands = parseDemands(texts, deps.clock())
    const reader = await authenticateReader(deps, c)
    const resolution = await resolveReference(deps, reader, reference, demands)
    // A digest means the same bytes for ever. What was said of them since may change: then it is asked again soon.
    const fixed = reference.selector.kind === 'digest' && resolution.state === undefined
    const seconds = fixed ? IMMUTABLE_SECONDS : MUTABLE_SECONDS
    return cachedJson(c, resolution, cacheControl(seconds, reader.tenant === null))
  })
