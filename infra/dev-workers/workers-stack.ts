import { join } from 'node:path'
import { progress } from '../dev/progress.ts'
import { startRunner } from '../dev/runner-process.ts'
import { type Secrets, writeAtomically } from '../dev/secrets.ts'
import {
  checkpointDir,
  diedWith,
  ISSUER,
  localPort,
  OPERATOR,
  RUNNER_ID,
  type Stack,
} from '../dev/stack.ts'
import { assertPortFree } from '../listen.ts'
import type { WorkersOptions } from './options.ts'
import { writeWorkerSecrets } from './worker-secrets.ts'
import { applyMigrations, startWorker } from './wrangler.ts'

/** The Worker in workerd with its D1, R2 and Durable Objects on disk, and one runner that reports to it. */
export async function startWorkersStack(options: WorkersOptions, secrets: Secrets): Promise<Stack> {
  const { stateDir, port } = options
  await assertPortFree(localPort('Worker', port))
  await assertPortFree(localPort('runner', port + 1))
  const envFile = await writeWorkerSecrets(stateDir, secrets)
  await applyMigrations(stateDir)
  progress('D1 migrated')
  const vars = { ISSUER, OPERATOR_TENANT: OPERATOR }
  const worker = await startWorker({ stateDir, port, envFile, vars }, (line) =>
    progress(`worker: ${line}`),
  )
  progress(`worker    ${worker.url}  registry + edge in workerd`)
  try {
    const fleetKey = join(stateDir, 'runner', 'fleet-key.json')
    await writeAtomically(fleetKey, JSON.stringify(secrets.fleetKey))
    const runner = await startRunner(
      {
        checkpoint: checkpointDir(options.samplesDir),
        registry: worker.url,
        edge: worker.url,
        port: port + 1,
        state: join(stateDir, 'runner'),
        id: RUNNER_ID,
        fleetKey,
        precision: options.precision,
      },
      (line) => progress(`runner: ${line}`),
    )
    progress(`runner    ${runner.url}  graft-tiny, ${options.precision}`)
    return {
      // Registry and edge share one address.
      registryUrl: worker.url,
      edgeUrl: worker.url,
      runnerUrl: runner.url,
      died: Promise.race([diedWith('Worker', worker.ended), diedWith('runner', runner.ended)]),
      async close() {
        await runner.stop()
        await worker.stop()
      },
    }
  } catch (error) {
    await worker.stop()
    throw error
  }
}
