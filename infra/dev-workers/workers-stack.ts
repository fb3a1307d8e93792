import { join } from 'node:path'
import { checkpointDir, ISSUER, OPERATOR } from '../dev/local-stack.ts'
import { progress } from '../dev/progress.ts'
import { type RunnerProcess, startRunner } from '../dev/runner-process.ts'
import { type Secrets, writeAtomically } from '../dev/secrets.ts'
import type { WorkersOptions } from './options.ts'
import { writeWorkerSecrets } from './worker-secrets.ts'
import { applyMigrations, assertPortFree, startWorker, type WorkerProcess } from './wrangler.ts'

export interface WorkersStack {
  /** Registry and edge share one address. */
  url: string
  worker: WorkerProcess
  runner: RunnerProcess
  close(): Promise<void>
}

/** The Worker in workerd with its D1, R2 and Durable Objects on disk, and one runner that reports to it. */
export async function startWorkersStack(
  options: WorkersOptions,
  secrets: Secrets,
): Promise<WorkersStack> {
  const { stateDir, port } = options
  await assertPortFree('Worker', port)
  await assertPortFree('runner', port + 1)
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
        id: 'runner-1',
        fleetKey,
        precision: options.precision,
      },
      (line) => progress(`runner: ${line}`),
    )
    progress(`runner    ${runner.url}  graft-tiny, ${options.precision}`)
    return {
      url: worker.url,
      worker,
      runner,
      // The runner drains while the edge still answers.
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
