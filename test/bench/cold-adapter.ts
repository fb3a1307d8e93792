import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { Runner } from '@graft/runner/app.ts'
import { generateSigningKey } from '@graft/sdk/format/jws.ts'
import type { AdapterPull } from '@graft/sdk/protocol/runner-api.ts'
import { type Bench, NOTHING } from './bench.ts'
import { randomPrompt } from './rows.ts'
import { median, rounded, summary } from './statistics.ts'
import { bankBytesOf } from './tiers/bank-bytes.ts'
import { openBenchRegistry } from './tiers/bench-registry.ts'
import { createCaller, openBenchEngine, openBenchRunner } from './tiers/bench-runner.ts'
import { engineGoldens, GOLDENS } from './tiers/engine-goldens.ts'
import { createLoraFiles } from './tiers/lora-files.ts'
import { readMetrics } from './tiers/read-metrics.ts'

const RANK = 16
const OTHERS = 8
const PROMPT = 128
const ANSWER = 64
/** Of an answer by one of the others: they go on through every measurement. */
const LONG = 1_500
/** Seconds after an arrival in which the tokens of the others are counted: about what the newcomer's answer takes. */
const WINDOW = 2.5
const GIB = 2 ** 30

interface Arrival {
  ttft: number
  /** Tokens per second of all the others together. */
  others: number
  /** Of the thread that serves requests, milliseconds. */
  loopDelay: { p99: number; max: number }
}

/** @param answer tokens; the others are watched for a window where it is a whole one */
type Arrive = (pull: AdapterPull, answer: number) => Promise<Arrival>

/**
 * A request whose adapter is in the registry and nowhere on the runner, while eight others decode, against the same
 * request once its adapter is resident. The registry is the real one in a process of its own, over loopback.
 */
export const coldAdapter: Bench = {
  about:
    'first token of a request whose adapter must come from the registry, eight others decoding',
  needs: NOTHING,
  async run({ quick, progress }) {
    await using stack = new AsyncDisposableStack()
    const count = quick ? 4 : 12
    const state = await mkdtemp(join(tmpdir(), 'graft-cold-'))
    stack.defer(() => rm(state, { recursive: true, force: true }))
    const opened = await openBenchEngine(stack, {
      // Room for the newcomer, and for the rows that prove an adapter.
      slots: OTHERS + 8,
      bankBudgetBytes: (count + OTHERS + 4) * (await bankBytesOf(RANK)),
    })
    const { engine, base } = opened
    const registry = await openBenchRegistry(stack, join(state, 'registry'), base)
    const key = await generateSigningKey()
    const fleetKey = await generateSigningKey()
    const makeLora = createLoraFiles(opened.config, base, RANK)
    const pulls: AdapterPull[] = []
    // One more than is measured: the first load of all starts threads and compiles code.
    for (let i = 0; i < OTHERS + count + 1; i++) {
      const lora = makeLora(i)
      await registry.publish(lora, await engineGoldens(engine, lora, key))
      const label = `${lora.manifest.name}@1.0.0`
      pulls.push({ digest: lora.digest, weight: '1', label, capability: null })
    }
    const [others, [spare, ...cold]] = [pulls.slice(0, OTHERS), pulls.slice(OTHERS)]
    progress(`engine and registry open, ${pulls.length} adapters published`)

    /** Every prompt is new, or a cache of prompts would answer for the adapter. */
    let seed = 0
    /** Runs `visit` on a runner over this engine while the others decode. */
    const phase = async (visit: (arrive: Arrive) => Promise<void>) => {
      const runner = openBenchRunner(opened, {
        key,
        fleetKey,
        registryUrl: registry.url,
        state,
        limits: { hostBytes: GIB, diskBytes: 8 * GIB },
        policy: 'goldens',
      })
      const call = createCaller(runner, opened, fleetKey)
      const vocab = engine.info.vocab
      let tokens = 0
      const leave = new AbortController()
      const running = others.map(async (pull, i) => {
        while (!leave.signal.aborted)
          await call({
            tenant: `other-${i}`,
            adapters: [pull],
            tokenIds: randomPrompt(i, 32, vocab),
            maxTokens: LONG,
            onToken: () => tokens++,
            signal: leave.signal,
          }).catch((e) => {
            if (!leave.signal.aborted) throw e
          })
      })
      const failed = Promise.all(running)
      failed.catch(() => {})
      const waitFor = async (work: Promise<unknown>): Promise<void> => {
        await Promise.race([work, failed])
      }
      // Every other has its adapter and decodes.
      while (tokens < 20 * OTHERS) await waitFor(sleep(0.02))
      await visit(async (pull, answer) => {
        const [from, begin] = [tokens, performance.now()]
        let others = 0
        const delay = monitorEventLoopDelay({ resolution: 1 })
        delay.enable()
        const window = sleep(WINDOW).then(() => {
          others = (tokens - from) / ((performance.now() - begin) / 1000)
          delay.disable()
        })
        const ttft = await call({
          tenant: 'newcomer',
          adapters: [pull],
          tokenIds: randomPrompt(100 + seed++, PROMPT, vocab),
          maxTokens: answer,
        })
        if (answer > 1) await waitFor(window)
        const loopDelay = { p99: delay.percentile(99) / 1e6, max: delay.max / 1e6 }
        return { ttft, others, loopDelay }
      })
      leave.abort()
      await failed
      const metrics = await readMetrics(runner)
      await close(runner)
      return metrics
    }
    /** Ends a runner and takes its adapters out of the engine, which the next one starts with. */
    const close = async (runner: Runner): Promise<void> => {
      const { residency } = runner.status()
      await runner[Symbol.asyncDispose]()
      for (const { digest, tier } of residency) if (tier === 'bank') await engine.unload(digest)
    }

    const arms: Record<'first' | 'warmAfterFirst' | 'cold' | 'warm', Arrival[]> = {
      first: [],
      warmAfterFirst: [],
      cold: [],
      warm: [],
    }
    await phase(async (arrive) => {
      await arrive(spare!, 1)
      for (const pull of cold) {
        arms.first.push(await arrive(pull, 1))
        arms.warmAfterFirst.push(await arrive(pull, 1))
      }
    })
    progress(`${count} first admissions`)
    // Admissions stay; of the adapters themselves nothing is left on this runner.
    for (const kind of ['blobs', 'records'])
      await rm(join(state, 'adapters', kind), { recursive: true })
    const metrics = await phase(async (arrive) => {
      await arrive(spare!, 1)
      for (const pull of cold) {
        arms.cold.push(await arrive(pull, ANSWER))
        arms.warm.push(await arrive(pull, ANSWER))
      }
    })
    const admissions = (outcome: string) => metrics(`graft_admissions_total{outcome="${outcome}"}`)
    if (metrics('graft_adapter_loads_total{from="registry"}') !== pulls.length)
      throw new Error('a cold adapter did not come from the registry')
    if (admissions('proven') > 0) throw new Error('an admission was not known')
    progress(`${count} cold and warm arrivals`)

    const ttft = (arm: keyof typeof arms) => arms[arm].map((arrival) => arrival.ttft)
    const rate = (arm: keyof typeof arms) => arms[arm].map((arrival) => arrival.others)
    const loopDelay = (arm: keyof typeof arms) => ({
      p99: summary(arms[arm].map((arrival) => arrival.loopDelay.p99)),
      max: summary(arms[arm].map((arrival) => arrival.loopDelay.max)),
    })
    const share = (a: number, b: number) => Number((a / b).toPrecision(4))
    return {
      ttft_ratio: share(median(ttft('cold')), median(ttft('warm'))),
      others_slowdown: rounded(1 - median(rate('cold')) / median(rate('warm'))),
      first_admission_ratio: share(median(ttft('first')), median(ttft('warmAfterFirst'))),
      ttft_ms: { cold: summary(ttft('cold')), warm: summary(ttft('warm')) },
      first_admission_ttft_ms: {
        first: summary(ttft('first')),
        warm: summary(ttft('warmAfterFirst')),
      },
      others_tokens_per_s: { cold: summary(rate('cold')), warm: summary(rate('warm')) },
      others_window_s: WINDOW,
      event_loop_delay_ms: { cold: loopDelay('cold'), warm: loopDelay('warm') },
      goldens: GOLDENS,
      others: OTHERS,
      prompt_tokens: PROMPT,
      answer_tokens: ANSWER,
      rank: RANK,
      file_dtype: 'bf16',
      shape: '135m',
      base_precision: engine.info.precision,
      bank_precision: engine.info.bankPrecision,
    }
  },
}

const sleep = (seconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, 1000 * seconds))
