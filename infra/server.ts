/** Registry and edge for one machine, without a demo: state on disk, configured by the environment. */

import { join } from 'node:path'
import { createNodeEdge } from '@graft/edge/node/create-node-edge.ts'
import { createNodeRegistry } from '@graft/registry/node/create-node-registry.ts'
import { createS3Blobs } from '@graft/registry/node/s3-blobs.ts'
import { EXIT, isGraftError } from '@graft/sdk/format/errors.ts'
import { listen } from './listen.ts'
import { readOptions, type ServerOptions, USAGE } from './server/options.ts'
import { openFleetKey, openSetupCode } from './server/state-files.ts'

const DAY_MS = 86_400_000

const log = (event: Record<string, unknown>): void => {
  process.stderr.write(
    `${JSON.stringify({ at: new Date().toISOString(), room: 'server', ...event })}\n`,
  )
}

/** Null where blobs are files in the state; credentials come from where AWS's own tools look for them. */
function openBucket({ s3 }: ServerOptions): ReturnType<typeof createS3Blobs> | null {
  if (s3 === null) return null
  const { bucket, endpoint, region } = s3
  return createS3Blobs(bucket, {
    region,
    ...(endpoint === null ? {} : { endpoint, forcePathStyle: true }),
  })
}

/** Opens both rooms; what was opened before a failure is closed again. */
async function startServer(options: ServerOptions) {
  const { stateDir, host, drainMs, issuerName, operatorTenant, witnesses } = options
  const opened: (() => void | Promise<void>)[] = []
  // Last opened, first closed: the edge drains while the registry still answers.
  const close = async () => {
    for (const part of opened.splice(0).reverse()) await part()
  }
  try {
    const fleetKey = await openFleetKey(options)
    const { code, made } = await openSetupCode(options)
    const blobs = openBucket(options)
    if (blobs) opened.push(async () => blobs[Symbol.asyncDispose]())
    const registry = await createNodeRegistry({
      ...(blobs ? { blobs } : {}),
      stateDir: join(stateDir, 'registry'),
      issuerName,
      witnesses,
      trustedIssuers: options.trustedIssuers,
      ...(options.signIn ? { signIn: options.signIn } : {}),
      setupCode: code,
    })
    opened.push(() => registry.close())
    const sweep = () =>
      registry.sweep().catch((error) => log({ event: 'sweep', message: String(error) }))
    const sweeping = setInterval(sweep, DAY_MS)
    opened.push(() => clearInterval(sweeping))
    const registryServer = await listen(registry.app, {
      host,
      port: options.registryPort,
      what: `${host}:${options.registryPort}`,
      advice: 'set GRAFT_REGISTRY_PORT to another port',
    })
    opened.push(() => registryServer.drain(drainMs))

    const registryUrl = registryServer.url
    const edge = await createNodeEdge({
      stateDir: join(stateDir, 'edge'),
      registryUrl,
      issuerName,
      fleetKey,
      operatorTenant,
      // A call to the registry beside us needs no socket, whatever address it listens on.
      fetch: async (input, init) => {
        const url = new URL(input instanceof Request ? input.url : input)
        return url.origin === registryUrl
          ? registry.app.fetch(new Request(input, init))
          : fetch(input, init)
      },
    })
    opened.push(() => edge.close())
    const edgeServer = await listen(edge.app, {
      host,
      port: options.edgePort,
      what: `${host}:${options.edgePort}`,
      advice: 'set GRAFT_EDGE_PORT to another port',
    })
    opened.push(() => edgeServer.drain(drainMs))
    return { registryUrl, edgeUrl: edgeServer.url, newSetupCode: made ? code : null, close }
  } catch (error) {
    await close()
    throw error
  }
}

async function main(): Promise<void> {
  if (process.argv.includes('--help')) {
    process.stdout.write(USAGE)
    return
  }
  const server = await startServer(readOptions(process.env))
  const { registryUrl: registry, edgeUrl: edge, newSetupCode } = server
  if (newSetupCode !== null)
    process.stdout.write(`${JSON.stringify({ setupCode: newSetupCode })}\n`)
  let draining = false
  const stop = (signal: string) => {
    // Who asks twice does not want to wait.
    if (draining) process.exit(EXIT.failure)
    draining = true
    log({ event: 'draining', signal })
    server.close().then(() => log({ event: 'stopped' }), fail)
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, stop)
  process.stdout.write(`${JSON.stringify({ ready: true, registry, edge })}\n`)
}

function fail(error: unknown): never {
  const known = isGraftError(error)
  const text = known ? `${error.message} (${error.code})` : String((error as Error)?.stack ?? error)
  process.stderr.write(`graft: ${text}\n`)
  process.exit(known ? error.exit : EXIT.failure)
}

await main().catch(fail)
