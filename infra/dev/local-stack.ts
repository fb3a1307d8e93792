import { join } from 'node:path'
import { createNodeEdge } from '@graft/edge/node/create-node-edge.ts'
import { createNodeRegistry } from '@graft/registry/node/create-node-registry.ts'
import { importSigningKey } from '@graft/sdk/format/jws.ts'
import { listen } from '../listen.ts'
import type { DevOptions } from './options.ts'
import { progress } from './progress.ts'
import { startRunner } from './runner-process.ts'
import { type Secrets, writeAtomically } from './secrets.ts'
import {
  checkpointDir,
  diedWith,
  ISSUER,
  localPort,
  OPERATOR,
  RUNNER_ID,
  type Stack,
} from './stack.ts'

/** Answers under way get this long when the stack stops. */
const DRAIN_MS = 5_000

/** Registry and edge in this process, one runner in its own, all three on loopback ports. */
export async function startStack(options: DevOptions, secrets: Secrets): Promise<Stack> {
  const { stateDir, ports } = options
  const opened: (() => void | Promise<void>)[] = []
  // Last opened, first closed: the runner drains while edge and registry still answer.
  const close = async () => {
    for (const part of opened.splice(0).reverse()) await part()
  }
  try {
    const registry = await createNodeRegistry({
      stateDir: join(stateDir, 'registry'),
      issuerName: ISSUER,
      setupCode: secrets.setupCode,
    })
    opened.push(() => registry.close())
    const registryServer = await listen(registry.app, localPort('registry', ports.registry))
    opened.push(() => registryServer.drain(DRAIN_MS))
    progress(`registry  ${registryServer.url}`)

    const edge = await createNodeEdge({
      stateDir: join(stateDir, 'edge'),
      registryUrl: registryServer.url,
      issuerName: ISSUER,
      fleetKey: await importSigningKey(secrets.fleetKey),
      operatorTenant: OPERATOR,
      log: (event) => {
        if (event['event'] === 'error') progress(`edge: ${JSON.stringify(event)}`)
      },
    })
    opened.push(() => edge.close())
    const edgeServer = await listen(edge.app, localPort('edge', ports.edge))
    opened.push(() => edgeServer.drain(DRAIN_MS))
    progress(`edge      ${edgeServer.url}`)

    const fleetKeyPath = join(stateDir, 'runner', 'fleet-key.json')
    await writeAtomically(fleetKeyPath, JSON.stringify(secrets.fleetKey))
    const runner = await startRunner(
      {
        checkpoint: checkpointDir(options.samplesDir),
        registry: registryServer.url,
        edge: edgeServer.url,
        port: ports.runner,
        state: join(stateDir, 'runner'),
        id: RUNNER_ID,
        fleetKey: fleetKeyPath,
        precision: options.precision,
      },
      (line) => progress(`runner: ${line}`),
    )
    opened.push(() => runner.stop())
    progress(`runner    ${runner.url}  graft-tiny, ${options.precision}`)
    return {
      registryUrl: registryServer.url,
      edgeUrl: edgeServer.url,
      runnerUrl: runner.url,
      died: diedWith('runner', runner.ended),
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}
