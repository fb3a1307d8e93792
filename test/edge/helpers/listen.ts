import type { AddressInfo } from 'node:net'
import { serve } from '@hono/node-server'

/** Serves an app on a free port of this machine. */
export async function listen(app: {
  fetch: (request: Request) => Response | Promise<Response>
}): Promise<{ url: string; close(): Promise<void> }> {
  const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' })
  if (!server.listening) await new Promise((resolve) => server.once('listening', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        if ('closeAllConnections' in server) server.closeAllConnections()
      }),
  }
}
