import { createServer, type Server } from 'node:http'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { getRequestListener } from '@hono/node-server'

export interface Listening {
  url: string
  close(): Promise<void>
}

type Fetch = (request: Request) => Response | Promise<Response>

/** Serves an app on a loopback port. @throws ERR_PORT_TAKEN naming the port and what to do. */
export function listen(name: string, app: { fetch: Fetch }, port: number): Promise<Listening> {
  const server = createServer(getRequestListener((request) => app.fetch(request)))
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EADDRINUSE') return reject(error)
      const advice = `stop what listens there, or start with --port <another>`
      reject(
        new GraftError('ERR_PORT_TAKEN', `port ${port} for the ${name} is taken: ${advice}`, {
          cause: error,
        }),
      )
    })
    server.listen(port, '127.0.0.1', () => {
      const address = server.address()
      const bound = typeof address === 'object' && address ? address.port : port
      resolve({ url: `http://127.0.0.1:${bound}`, close: () => closeServer(server) })
    })
  })
}

/** Lets answers in flight end, then cuts what is left. */
function closeServer(server: Server): Promise<void> {
  const cut = setTimeout(() => server.closeAllConnections(), 5_000)
  return new Promise((resolve) => {
    server.close(() => {
      clearTimeout(cut)
      resolve()
    })
    server.closeIdleConnections()
  })
}
