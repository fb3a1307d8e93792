import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createNodeRegistry } from '@graft/registry/node/create-node-registry.ts'
import { exportSigningKey, generateSigningKey } from '@graft/sdk/format/jws.ts'
import { samplesDir } from '../../infra/dev/options.ts'
import { checkpointDir } from '../../infra/dev/stack.ts'
import { listen } from '../../infra/listen.ts'
import { machine } from './machine.ts'
import { createRunnerCaller } from './soak/call-runner.ts'
import { fillRegistry } from './soak/catalogue.ts'
import { learnAnswers } from './soak/known-answers.ts'
import { slope, watchRunner } from './soak/memory-watch.ts'
import { LEAST_MINUTES_JUDGED, parseSoakOptions, type SoakOptions, USAGE } from './soak/options.ts'
import { startSoakedRunner } from './soak/runner.ts'
import { newTally, runTraffic } from './soak/traffic.ts'
import { quantile, rounded } from './statistics.ts'

const RUNNER_ID = 'soaked'
/** The catalogue is several times the bank, and more than the bank and the host memory together. */
const BANK_MIB = 24
const HOST_MIB = 32
/** Full after the warm-up: until its budget is reached, the store of prompt blocks grows as it should. */
const PREFIX_MIB = 16
/** Share of the run in which caches and heaps still fill. */
const WARM_UP = 0.25

const say = (line: string): void => {
  process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${line}\n`)
}

/** Traffic of all methods against a real runner, a real registry and real files. @returns the exit code */
async function soak({ minutes, rate, seed, bound }: SoakOptions): Promise<number> {
  const state = await mkdtemp(join(tmpdir(), 'graft-soak-'))
  const stack = new AsyncDisposableStack()
  stack.defer(() => rm(state, { recursive: true, force: true }))
  await using _ = stack
  const setupCode = crypto.randomUUID()
  const registry = await createNodeRegistry({
    stateDir: join(state, 'registry'),
    issuerName: 'graft-soak',
    setupCode,
  })
  stack.defer(() => registry.close())
  const address = { port: 0, what: 'a port for the registry', advice: 'free one' }
  const server = await listen(registry.app, address)
  stack.defer(() => server.drain(1_000))
  say('publishing samples and generated adapters')
  const catalogue = await fillRegistry(server.url, setupCode, samplesDir)

  const fleetKey = await generateSigningKey()
  const fleetKeyFile = join(state, 'fleet-key.json')
  await writeFile(fleetKeyFile, JSON.stringify(await exportSigningKey(fleetKey)), { mode: 0o600 })
  const runner = await startSoakedRunner(
    {
      checkpoint: checkpointDir(samplesDir),
      registry: server.url,
      state: join(state, 'runner'),
      id: RUNNER_ID,
      'fleet-key': fleetKeyFile,
      port: '0',
      policy: 'allow-unproven',
      'bank-mib': String(BANK_MIB),
      'host-mib': String(HOST_MIB),
      'prefix-mib': String(PREFIX_MIB),
    },
    (line) => say(`runner: ${line}`),
  )
  stack.defer(() => runner.stop())
  const caller = createRunnerCaller(runner.url, fleetKey, RUNNER_ID)
  say(`asking for every answer alone: ${catalogue.callables.length} callables`)
  const known = await Promise.race([learnAnswers(caller, catalogue), runner.died])
  const compared = known.flat().reduce((sum, { tokens }) => sum + tokens.length, 0)

  say(`${minutes} minutes of traffic at ${rate} requests a second`)
  const tally = newTally()
  const before = await caller.metrics()
  const cpuBefore = (await runner.memory()).cpu
  const watch = watchRunner(runner)
  const begin = performance.now()
  const until = begin + minutes * 60_000
  const report = setInterval(() => {
    const { rss = 0, heapUsed = 0 } = watch.samples.at(-1) ?? {}
    const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(0)
    say(
      `${tally.latency.length} answers, ${tally.wrong} wrong, RSS ${mib(rss)} MiB, heap ${mib(heapUsed)} MiB`,
    )
  }, 60_000)
  try {
    await Promise.race([runTraffic(caller, known, { rate, seed, until, tally }), runner.died])
  } finally {
    clearInterval(report)
    await watch.stop()
  }
  const seconds = (performance.now() - begin) / 1000
  const after = await caller.metrics()
  const cpu = (await runner.memory()).cpu
  const grown = (series: string): number => (after.get(series) ?? 0) - (before.get(series) ?? 0)
  const cpuSeconds = (cpu.user + cpu.system - cpuBefore.user - cpuBefore.system) / 1e6

  const warmUpHours = (minutes / 60) * WARM_UP
  const slopes = {
    rss: slope(watch.samples, 'rss', warmUpHours),
    heap: slope(watch.samples, 'heapUsed', warmUpHours),
    external: slope(watch.samples, 'external', warmUpHours),
  }
  const judged = minutes >= LEAST_MINUTES_JUDGED
  const grows = [slopes.rss, slopes.heap].some((line) => line && line.mib_per_hour > bound)
  const spread = (values: number[]) => ({
    p50: rounded(quantile(values, 0.5)),
    p99: rounded(quantile(values, 0.99)),
  })
  const ok = tally.wrong === 0 && tally.unexpectedEnds === 0 && !(judged && grows)
  const result = {
    soak: ok ? 'passed' : 'failed',
    minutes,
    rate,
    seed,
    requests: tally.requests,
    ends: tally.ends,
    tokens: tally.tokens,
    wrong_tokens: tally.wrong,
    wrong_examples: tally.wrongExamples,
    unexpected_ends: tally.unexpectedEnds,
    refused_busy: tally.busy,
    dropped_arrivals: tally.dropped,
    callables: catalogue.callables.length,
    answers_known: known.flat().length,
    tokens_known: compared,
    evictions: grown('graft_bank_evictions_total'),
    loads: {
      from_disk: grown('graft_adapter_loads_total{from="disk"}'),
      from_registry: grown('graft_adapter_loads_total{from="registry"}'),
    },
    latency_ms: spread(tally.latency),
    first_token_ms: spread(tally.firstToken),
    cpu_share_of_machine: rounded(cpuSeconds / seconds / machine().cores),
    memory: {
      slopes,
      bound_mib_per_hour: bound,
      judged,
      warm_up_share: WARM_UP,
      rss_mib: watch.samples.map(({ rss }) => Math.round(rss / 2 ** 20)).filter(everyMinute),
      heap_mib: watch.samples.map((s) => Math.round(s.heapUsed / 2 ** 20)).filter(everyMinute),
      external_mib: watch.samples.map((s) => Math.round(s.external / 2 ** 20)).filter(everyMinute),
    },
    bank_mib: BANK_MIB,
    host_mib: HOST_MIB,
    machine: machine(),
    seconds: Number(seconds.toFixed(1)),
  }
  console.log(JSON.stringify(result, null, 2))
  return ok ? 0 : 1
}

const everyMinute = (_: number, i: number): boolean => i % 12 === 0

const options = parseSoakOptions(process.argv.slice(2))
if (options) process.exitCode = await soak(options)
else console.log(USAGE)
