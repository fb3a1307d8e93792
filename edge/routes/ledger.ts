import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { decodeUnverified } from '@graft/sdk/format/jws.ts'
import { MAX_NANOS } from '@graft/sdk/protocol/ledger.ts'
import type { Receipt } from '@graft/sdk/protocol/receipts.ts'
import { Hono } from 'hono'
import * as z from 'zod'
import { authenticate } from '../auth/authenticate.ts'
import { failClosed } from '../calls/call-hold.ts'
import type { EdgeContext, EdgeEnv } from '../context.ts'
import { parse } from '../openai/parse-body.ts'
import { readJson } from './read-json.ts'

const MAX_ENTRIES = 1_000
/** A top-up is four short fields. */
const TOP_UP_BYTES = 10_000

const topUpSchema = z.strictObject({
  tenant: z.string().regex(/^[a-z0-9][a-z0-9-]{0,38}$/),
  amount: z.int().min(1).max(MAX_NANOS),
  id: z.string().min(1).max(200),
  memo: z.string().max(1_000),
})

/** Balance, entries, top-ups and receipts. */
export const ledgerRoutes = (edge: EdgeContext) =>
  new Hono<EdgeEnv>()
    .get('/v1/balance', async (c) => {
      const { tenant } = await authenticate(edge, c.req.header('authorization'), 'infer')
      return c.json(await failClosed('be read', edge.books.book(tenant).balance()))
    })
    .get('/v1/ledger/entries', async (c) => {
      const { tenant } = await authenticate(edge, c.req.header('authorization'), 'ledger')
      const text = c.req.query('after') ?? '0'
      const after = Number(text)
      if (!/^\d+$/.test(text) || !Number.isSafeInteger(after))
        throw new GraftError('ERR_REQUEST_INVALID', expected('after', 'the id of an entry', text))
      const book = edge.books.book(tenant)
      const entries = await failClosed('be read', book.entries({ after, limit: MAX_ENTRIES }))
      return c.json({ entries })
    })
    .post('/v1/ledger/top-ups', async (c) => {
      await authenticateOperator(edge, c.req.header('authorization'))
      const { tenant, ...topUp } = parse(topUpSchema, await readJson(c.req.raw, TOP_UP_BYTES))
      return c.json(await failClosed('post a top-up', edge.books.book(tenant).topUp(topUp)))
    })
    .get('/v1/receipts/:requestId', async (c) => {
      const { tenant } = await authenticate(edge, c.req.header('authorization'), 'infer')
      const requestId = c.req.param('requestId')
      const receipt = await failClosed('be read', edge.books.book(tenant).receipt(requestId))
      if (receipt === null)
        throw new GraftError(
          'ERR_RECEIPT_UNKNOWN',
          `"${tenant}" has no finished call ${requestId}; a call gets its receipt when it ends`,
        )
      return c.json({ receipt, ...decodeUnverified<Receipt>(receipt).payload })
    })

/** @throws ERR_FORBIDDEN unless the token is an `admin` token of the operator's organisation */
export async function authenticateOperator(
  edge: EdgeContext,
  header: string | undefined,
): Promise<void> {
  const { tenant } = await authenticate(edge, header, 'admin')
  if (tenant === edge.operatorTenant) return
  throw new GraftError(
    'ERR_FORBIDDEN',
    `this is for admin tokens of "${edge.operatorTenant}", got one of "${tenant}"`,
  )
}
