import { createServer, type Server } from 'node:http'
import { isIPv6 } from 'node:net'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { getRequestListener } from '@hono/node-server'

interface App {
  fetch(request: Request): Response | Promise<Response>
}

export interface Listening {
  url: string
  /** Refuses new connections, lets answers under way end, and after `drainMs` cuts what is left. */
  drain(drainMs: number): Promise<void>
}

/** @throws ERR_PORT_TAKEN naming the variable to change */
export function listen(
  app: App,
  { host, port, variable }: { host: string; port: number; variable: string },
): Promise<Listening> {
  const server = createServer(getRequestListener((request) => app.fetch(request)))
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EADDRINUSE') return reject(error)
      const message = `${host}:${port} is taken: stop what listens there, or set ${variable} to another port`
      reject(new GraftError('ERR_PORT_TAKEN', message, { cause: error }))
    })
    server.listen(port, host, () => {
      const address = server.address()
      const bound = typeof address === 'object' && address ? address.port : port
      const name = isIPv6(host) ? `[${host}]` : host
      resolve({ url: `http://${name}:${bound}`, drain: (ms) => drain(server, ms) })
    })
  })
}

function drain(server: Server, drainMs: number): Promise<void> {
  const cut = setTimeout(() => server.closeAllConnections(), drainMs)
  // A kept-alive connection turns idle when its answer ends, and must not be waited for.
  const idle = setInterval(() => server.closeIdleConnections(), 100)
  return new Promise((resolve) => {
    server.close(() => {
      clearTimeout(cut)
      clearInterval(idle)
      resolve()
    })
    server.closeIdleConnections()
  })
}
