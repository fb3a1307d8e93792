import { createLedgerClient } from '@graft/sdk/client/ledger-client.ts'
import { errorResponse, GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import { ensureBase, ensureSamples, ensureTenants, TOP_UP_NANOS, topUpId } from './bootstrap.ts'
import { runDemo } from './demo.ts'
import { demoCalls, TENANTS } from './demo-calls.ts'
import { print, progress } from './progress.ts'
import { formatReport } from './report.ts'
import { runnerSteps } from './runner-steps.ts'
import { readSample, sampleNames } from './samples.ts'
import { openSecrets, type Secrets } from './secrets.ts'
import { OPERATOR, RUNNER_ID, type Stack } from './stack.ts'
import { waitForRunner } from './wait-for-runner.ts'

export interface RunOptions {
  /** Run the demo and stop. */
  once: boolean
  stateDir: string
  samplesDir: string
}

/** Publishes what is missing and runs the demo. @returns how many problems it found */
async function demo(options: RunOptions, stack: Stack, secrets: Secrets): Promise<number> {
  const { samplesDir, stateDir } = options
  const { registryUrl, edgeUrl, runnerUrl } = stack
  const names = await sampleNames(samplesDir)
  const samples = await Promise.all(names.map((name) => readSample(samplesDir, name)))
  await ensureTenants(registryUrl, stateDir, secrets)
  const base = await ensureBase(registryUrl, secrets, samplesDir)
  const published = await ensureSamples(registryUrl, secrets, base, samples)
  progress(`${published} samples published now, ${samples.length - published} were there`)
  const operator = createLedgerClient({ url: edgeUrl, token: secrets.tokens[OPERATOR]! })
  for (const tenant of TENANTS)
    await operator.topUp({ tenant, amount: TOP_UP_NANOS, id: topUpId(tenant), memo: 'demo credit' })
  await waitForRunner(edgeUrl, secrets.tokens[TENANTS[0]]!, base.identity.name)
  progress('ready')
  const report = await runDemo({
    edgeUrl,
    tokens: secrets.tokens,
    baseName: base.identity.name,
    calls: demoCalls(samples),
    steps: () => runnerSteps(runnerUrl, secrets.fleetKey, RUNNER_ID),
  })
  print(formatReport(report))
  return report.problems.length
}

function printHowToCall({ edgeUrl, registryUrl }: Stack, token: string): void {
  print()
  print(`Serving. Point any OpenAI client at ${edgeUrl}/v1, for instance:`)
  print(`  export GRAFT_EDGE=${edgeUrl} GRAFT_REGISTRY=${registryUrl}`)
  print(`  export GRAFT_TOKEN=${token}`)
  print(
    `  npm run -s graft -- run @samples/json-lora-r16@^1 --chat 'json: Anna is 34 and lives in Oslo'`,
  )
  print('Ctrl-C drains and stops.')
}

/** Starts a stack, runs the demo, then serves until Ctrl-C. @returns the exit code */
async function run(
  options: RunOptions,
  start: (secrets: Secrets) => Promise<Stack>,
): Promise<number> {
  const stopped = new Promise<null>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve(null))
  })
  const secrets = await openSecrets(options.stateDir)
  const stack = await start(secrets)
  try {
    const died = stack.died.then((what): never => {
      throw new GraftError('ERR_UNREACHABLE', `${what}; start again`)
    })
    // Its end is told by whoever races it; after that it is no news.
    died.catch(() => {})
    const problems = await Promise.race([demo(options, stack, secrets), stopped, died])
    if (problems === null) return 0
    if (options.once || problems > 0) return problems === 0 ? 0 : 1
    printHowToCall(stack, secrets.tokens[TENANTS[0]]!)
    await Promise.race([stopped, died])
    progress('draining')
    return 0
  } finally {
    await stack.close()
    progress('stopped')
  }
}

/** The whole program around a stack: options, errors in one line, exit codes of the error table. */
export async function runStack<Options extends RunOptions>(
  usage: string,
  parse: () => Options,
  start: (options: Options, secrets: Secrets) => Promise<Stack>,
): Promise<number> {
  try {
    if (process.argv.includes('--help')) {
      print(usage)
      return 0
    }
    const options = parse()
    return await run(options, (secrets) => start(options, secrets))
  } catch (error) {
    const known = isGraftError(error)
    const message = known ? error.message : errorResponse(error).body.error.message
    process.stderr.write(`graft: ${message}${known ? ` (${error.code})` : ''}\n`)
    if (!known) process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`)
    return known ? error.exit : 1
  }
}
