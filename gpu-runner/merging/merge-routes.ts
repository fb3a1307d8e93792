import { isDigest } from '@graft/sdk/format/digest.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { Hono } from 'hono'
import { readBody } from '../http/read-body.ts'
import { parse, pullSchema } from '../http/schemas.ts'
import type { Merging } from './merging.ts'

/** /v1/merges, for operators. @param merging null where the runner was started without */
export function mergeRoutes(merging: Merging | null): Hono {
  const on = (): Merging => {
    if (merging) return merging
    throw new GraftError(
      'ERR_OPERATION_UNSUPPORTED',
      'this runner does not merge; start it with --merge auto or --merge <MiB>',
    )
  }
  return new Hono()
    .get('/', (c) => c.json(on().status()))
    .post('/', async (c) => {
      const pull = parse(pullSchema, await readBody(c.req.raw))
      if (Number(pull.weight) !== 1)
        throw new GraftError(
          'ERR_REQUEST_INVALID',
          expected('weight', '"1": only whole adapters are merged', pull.weight),
        )
      return c.json(await on().merge(pull))
    })
    .delete('/:digest', async (c) => {
      const digest = c.req.param('digest')
      if (!isDigest(digest))
        throw new GraftError(
          'ERR_DIGEST_INVALID',
          expected('path', '"sha256:" and 64 hex digits', digest),
        )
      await on().unmerge(digest)
      return c.json({})
    })
}
