/** `npm run dev:workers`: the Worker as wrangler runs it locally, a runner, the samples published, a demo, then serving. */

import { createLedgerClient } from '@graft/sdk/client/ledger-client.ts'
import { errorResponse, GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import { ensureBase, ensureSamples, ensureTenants, TOP_UP_NANOS, topUpId } from './dev/bootstrap.ts'
import { runDemo } from './dev/demo.ts'
import { demoCalls, TENANTS } from './dev/demo-calls.ts'
import { OPERATOR } from './dev/local-stack.ts'
import { print, progress } from './dev/progress.ts'
import { formatReport } from './dev/report.ts'
import { runnerSteps } from './dev/runner-steps.ts'
import { readSample, sampleNames } from './dev/samples.ts'
import { openSecrets, type Secrets } from './dev/secrets.ts'
import { waitForRunner } from './dev/wait-for-runner.ts'
import { parseOptions, USAGE, type WorkersOptions } from './dev-workers/options.ts'
import { startWorkersStack, type WorkersStack } from './dev-workers/workers-stack.ts'

/** @returns how many problems the demo found */
async function demo(options: WorkersOptions, stack: WorkersStack, secrets: Secrets) {
  const { url } = stack
  const { samplesDir, stateDir } = options
  const names = await sampleNames(samplesDir)
  const samples = await Promise.all(names.map((name) => readSample(samplesDir, name)))
  await ensureTenants(url, stateDir, secrets)
  const base = await ensureBase(url, secrets, samplesDir)
  const published = await ensureSamples(url, secrets, base, samples)
  progress(`${published} samples published now, ${samples.length - published} were there`)
  const operator = createLedgerClient({ url, token: secrets.tokens[OPERATOR]! })
  for (const tenant of TENANTS)
    await operator.topUp({ tenant, amount: TOP_UP_NANOS, id: topUpId(tenant), memo: 'demo credit' })
  await waitForRunner(url, secrets.tokens[TENANTS[0]]!, base.identity.name)
  progress('ready')
  const report = await runDemo({
    edgeUrl: url,
    tokens: secrets.tokens,
    baseName: base.identity.name,
    calls: demoCalls(samples),
    steps: () => runnerSteps(stack.runner.url, secrets.fleetKey, 'runner-1'),
  })
  print(formatReport(report))
  return report.problems.length
}

/** Rejects when a part of the stack ends by itself. */
async function death({ worker, runner }: WorkersStack): Promise<never> {
  const part = await Promise.race([
    worker.ended.then((code) => `the Worker ended with exit code ${code}`),
    runner.ended.then((code) => `the runner ended with exit code ${code}`),
  ])
  throw new GraftError('ERR_UNREACHABLE', `${part}; start again`)
}

async function main(): Promise<number> {
  if (process.argv.includes('--help')) {
    print(USAGE)
    return 0
  }
  const options = parseOptions(process.argv.slice(2))
  const stopped = new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve())
  })
  const secrets = await openSecrets(options.stateDir)
  const stack = await startWorkersStack(options, secrets)
  try {
    const died = death(stack)
    died.catch(() => {})
    const stop = stopped.then(() => null)
    const problems = await Promise.race([demo(options, stack, secrets), stop, died])
    if (problems === null) return 0
    if (options.once || problems > 0) return problems === 0 ? 0 : 1
    print()
    print(`Serving from workerd. Point any OpenAI client at ${stack.url}/v1, for instance:`)
    print(`  export GRAFT_EDGE=${stack.url} GRAFT_REGISTRY=${stack.url}`)
    print(`  export GRAFT_TOKEN=${secrets.tokens[TENANTS[0]]}`)
    print('Ctrl-C drains and stops.')
    await Promise.race([stop, died])
    progress('draining')
    return 0
  } finally {
    await stack.close()
    progress('stopped')
  }
}

try {
  process.exitCode = await main()
} catch (error) {
  const known = isGraftError(error)
  const message = known ? error.message : errorResponse(error).body.error.message
  process.stderr.write(`graft: ${message}${known ? ` (${error.code})` : ''}\n`)
  if (!known) process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`)
  process.exitCode = known ? error.exit : 1
}
