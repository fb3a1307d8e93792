/** `npm start`: registry, edge and a runner on this machine, the samples published, a demo, then serving. */

import { createLedgerClient } from '@graft/sdk/client/ledger-client.ts'
import { errorResponse, GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import type { StepRecord } from '@graft/sdk/protocol/runner-api.ts'
import { ensureBase, ensureSamples, ensureTenants, TOP_UP_NANOS, topUpId } from './dev/bootstrap.ts'
import { runDemo } from './dev/demo.ts'
import { demoCalls, TENANTS } from './dev/demo-calls.ts'
import { type LocalStack, OPERATOR, startStack } from './dev/local-stack.ts'
import { type DevOptions, parseOptions, USAGE } from './dev/options.ts'
import { print, progress } from './dev/progress.ts'
import { formatReport } from './dev/report.ts'
import { runnerSteps } from './dev/runner-steps.ts'
import { readSample, sampleNames } from './dev/samples.ts'
import { openSecrets, type Secrets } from './dev/secrets.ts'
import { waitForRunner } from './dev/wait-for-runner.ts'

async function demo(options: DevOptions, stack: LocalStack, secrets: Secrets): Promise<number> {
  const names = await sampleNames(options.samplesDir)
  const samples = await Promise.all(names.map((name) => readSample(options.samplesDir, name)))
  await ensureTenants(stack.registryUrl, options.stateDir, secrets)
  const base = await ensureBase(stack.registryUrl, secrets, options.samplesDir)
  const published = await ensureSamples(stack.registryUrl, secrets, base, samples)
  progress(`${published} samples published now, ${samples.length - published} were there`)
  const operator = createLedgerClient({ url: stack.edgeUrl, token: secrets.tokens[OPERATOR]! })
  for (const tenant of TENANTS)
    await operator.topUp({ tenant, amount: TOP_UP_NANOS, id: topUpId(tenant), memo: 'demo credit' })
  await waitForRunner(stack.edgeUrl, secrets.tokens[TENANTS[0]]!, base.identity.name)
  progress('ready')

  const report = await runDemo({
    edgeUrl: stack.edgeUrl,
    tokens: secrets.tokens,
    baseName: base.identity.name,
    calls: demoCalls(samples),
    steps: (): Promise<StepRecord[]> => runnerSteps(stack.runnerUrl, secrets.fleetKey, 'runner-1'),
  })
  print(formatReport(report))
  return report.problems.length
}

function keepServing(stack: LocalStack, secrets: Secrets): void {
  print()
  print(`Serving. Point any OpenAI client at ${stack.edgeUrl}/v1, for instance:`)
  print(`  export GRAFT_EDGE=${stack.edgeUrl} GRAFT_REGISTRY=${stack.registryUrl}`)
  print(`  export GRAFT_TOKEN=${secrets.tokens[TENANTS[0]]}`)
  print(
    `  npm run -s graft -- run @samples/json-lora-r16@^1 --chat 'json: Anna is 34 and lives in Oslo'`,
  )
  print('Ctrl-C drains and stops.')
}

async function main(): Promise<number> {
  if (process.argv.includes('--help')) {
    print(USAGE)
    return 0
  }
  const options = parseOptions(process.argv.slice(2), process.env)
  const stopped = new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve())
  })
  const secrets = await openSecrets(options.stateDir)
  const stack = await startStack(options, secrets)
  try {
    const died = stack.runner.ended.then((code) => {
      throw new GraftError(
        'ERR_RUNNER_FAILED',
        `the runner ended with exit code ${code}; start again`,
      )
    })
    died.catch(() => {})
    const outcome = await Promise.race([
      demo(options, stack, secrets),
      stopped.then(() => null),
      died,
    ])
    if (outcome === null) return 0
    if (options.once || outcome > 0) return outcome === 0 ? 0 : 1
    keepServing(stack, secrets)
    await Promise.race([stopped, died])
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
  const message = isGraftError(error)
    ? `${error.message} (${error.code})`
    : errorResponse(error).body.error.message
  process.stderr.write(`graft: ${message}\n`)
  if (!isGraftError(error))
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`)
  process.exitCode = isGraftError(error) ? error.exit : 1
}
