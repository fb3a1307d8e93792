import type { ReceiptKeys } from '@graft/sdk/protocol/receipts.ts'
import { Hono } from 'hono'
import type { EdgeContext, EdgeEnv } from '../context.ts'

/** What probes, scrapers and receipt verifiers read, without a token. */
export const operationRoutes = (edge: EdgeContext) =>
  new Hono<EdgeEnv>()
    .get('/healthz', (c) => c.json({ ok: true }))
    .get('/metrics', async (c) => {
      const runners = await edge.fleet.runners()
      const open = runners.reduce((sum, { status }) => sum + edge.open.count(status.id), 0)
      const gauges = { graft_edge_runners: runners.length, graft_edge_open_calls: open }
      return c.text(edge.metrics.text(gauges), 200, {
        'content-type': 'text/plain; version=0.0.4; charset=utf-8',
      })
    })
    .get('/.well-known/graft-keys.json', async (c) => {
      const keys: ReceiptKeys = {
        edge: [edge.receiptKey.publicJwk],
        runners: await edge.fleet.keys(),
      }
      return c.json(keys)
    })
