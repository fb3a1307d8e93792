import { createServer, type Server } from 'node:http'
import { isIPv6 } from 'node:net'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { getRequestListener } from '@hono/node-server'

interface App {
  fetch(request: Request): Response | Promise<Response>
}

export interface Address {
  /** @default 127.0.0.1 */
  host?: string
  port: number
  /** The address as the message names it: `port 8788 for the registry`. */
  what: string
  /** How to choose another: `set GRAFT_EDGE_PORT to another port`. */
  advice: string
}

export interface Listening {
  url: string
  /** Refuses new connections, lets answers under way end, and after `drainMs` cuts what is left. */
  drain(drainMs: number): Promise<void>
}

const LOOPBACK = '127.0.0.1'

/** @throws ERR_PORT_TAKEN naming the address and what to do */
export async function listen(app: App, address: Address): Promise<Listening> {
  const server = createServer(getRequestListener((request) => app.fetch(request)))
  const port = await bind(server, address)
  const { host = LOOPBACK } = address
  const name = isIPv6(host) ? `[${host}]` : host
  return { url: `http://${name}:${port}`, drain: (ms) => drain(server, ms) }
}

/** For a port that another program will listen on. @throws ERR_PORT_TAKEN */
export async function assertPortFree(address: Address): Promise<void> {
  const server = createServer()
  await bind(server, address)
  await drain(server, 0)
}

/** @returns the port, which the system chose where 0 was asked for */
function bind(server: Server, { host = LOOPBACK, port, what, advice }: Address): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EADDRINUSE') return reject(error)
      const message = `${what} is taken: stop what listens there, or ${advice}`
      reject(new GraftError('ERR_PORT_TAKEN', message, { cause: error }))
    })
    server.listen(port, host, () => {
      const bound = server.address()
      resolve(typeof bound === 'object' && bound ? bound.port : port)
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
