import { parseDigest } from '@graft/sdk/format/digest.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { OPERATIONS, type OperationKind } from '@graft/sdk/format/operations.ts'
import { parseAdapterReference } from '@graft/sdk/format/parse-reference.ts'
import { Hono } from 'hono'
import type { RegistryDeps } from '../deps.ts'
import { cacheControl, cachedJson, IMMUTABLE_SECONDS, MUTABLE_SECONDS } from '../http/answer.ts'
import { readQuery } from '../http/body.ts'
import type { RegistryEnv } from '../http/context.ts'
import { authenticateReader } from '../identity/authenticate.ts'
import { resolveReference } from '../resolve/resolve-reference.ts'

/** A comma-separated list. A newer runtime may name operations that this registry never heard of. */
const parseOperations = (text: string): OperationKind[] =>
  text.split(',').filter((name): name is OperationKind => Object.hasOwn(OPERATIONS, name))

export const resolveRoutes = (deps: RegistryDeps) =>
  new Hono<RegistryEnv>().get('/v1/resolve', async (c) => {
    const { ref, base, operations } = readQuery(c, ['ref', 'base', 'operations'])
    if (ref === undefined)
      throw new GraftError('ERR_REQUEST_INVALID', expected('query: ref', '@scope/name@range', ref))
    const reference = parseAdapterReference(ref)
    const reader = await authenticateReader(deps, c)
    const resolution = await resolveReference(deps, reader, reference, {
      base: base === undefined ? null : parseDigest(base, 'query: base'),
      operations: operations === undefined ? null : parseOperations(operations),
    })
    const seconds = reference.selector.kind === 'digest' ? IMMUTABLE_SECONDS : MUTABLE_SECONDS
    return cachedJson(c, resolution, cacheControl(seconds, reader.tenant === null))
  })
