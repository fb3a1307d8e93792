import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createDiskCache } from '@graft/runner/tiers/disk-cache.ts'
import { generateSigningKey } from '@graft/sdk/format/jws.ts'
import type { AdapterPull } from '@graft/sdk/protocol/runner-api.ts'
import { mulberry32 } from '../random.ts'
import { type Bench, NOTHING } from './bench.ts'
import { randomPrompt } from './rows.ts'
import { median, rounded, summary } from './statistics.ts'
import { bankBytesOf } from './tiers/bank-bytes.ts'
import { createCaller, openBenchEngine, openBenchRunner } from './tiers/bench-runner.ts'
import { createLoraFiles, signedRecord } from './tiers/lora-files.ts'
import { readMetrics } from './tiers/read-metrics.ts'
import { zipf } from './tiers/zipf.ts'

const RANK = 16
const SLOTS = 16
/** More than slots, so that requests wait: a runner fetches for them meanwhile. */
const CLIENTS = 24
const BANK_ADAPTERS = 64
const RESIDENT = 16
const ALPHA = 1
const PROMPT = [16, 64] as const
const ANSWER = [32, 96] as const
const GIB = 2 ** 30

type Arm = 'resident' | 'registered'

/**
 * Tokens per second of a runner whose requests are spread over far more adapters than its bank holds, over the same
 * runner's with 16 that stay there. Both arms are served by the whole runner, 16 rows at a time, and no two requests
 * under way use the same adapter, so that a step costs the same in both and only residency differs.
 */
export const adaptersRegistered: Bench = {
  about: '1,000 adapters by Zipf through a bank of 64 against 16 that stay resident',
  needs: NOTHING,
  async run({ quick, progress }) {
    await using stack = new AsyncDisposableStack()
    const registered = quick ? 128 : 1000
    const hostAdapters = quick ? 48 : 128
    const seconds = quick ? { settle: 2, measure: 2.5 } : { settle: 4, measure: 10 }
    const rounds = quick ? 3 : 7
    const lap = laps(progress)

    const state = await mkdtemp(join(tmpdir(), 'graft-registered-'))
    stack.defer(() => rm(state, { recursive: true, force: true }))
    const bankBytes = await bankBytesOf(RANK)
    const opened = await openBenchEngine(stack, {
      slots: SLOTS,
      bankBudgetBytes: BANK_ADAPTERS * bankBytes,
    })
    lap('engine open')
    const makeLora = createLoraFiles(opened.config, opened.base, RANK)
    const key = await generateSigningKey()
    const disk = createDiskCache(join(state, 'adapters'), 64 * GIB)
    const pulls: AdapterPull[] = []
    let fileBytes = 0
    for (let i = 0; i < registered; i++) {
      const lora = makeLora(i)
      const { manifest, safetensors, digest } = lora
      await disk.putBlob(manifest.files[0]!.sha256, safetensors)
      await disk.putNote('records', digest, await signedRecord(lora, key))
      pulls.push({ digest, weight: '1', label: `${manifest.name}@1.0.0`, capability: null })
      fileBytes = safetensors.length
    }
    lap(`${registered} files of ${(fileBytes / 1e6).toFixed(1)} MB on disk`)

    const fleetKey = await generateSigningKey()
    const runner = openBenchRunner(opened, {
      key,
      fleetKey,
      // Every file is on disk: a registry that is asked is a defect, and this one does not answer.
      registryUrl: 'http://127.0.0.1:1',
      state,
      limits: { hostBytes: hostAdapters * fileBytes, diskBytes: 64 * GIB },
      policy: 'allow-unproven',
    })
    stack.defer(() => runner[Symbol.asyncDispose]())
    const call = createCaller(runner, opened, fleetKey)

    const vocab = opened.engine.info.vocab
    const shortCall = (index: number) =>
      call({
        tenant: `tenant-${index % CLIENTS}`,
        adapters: [pulls[index]!],
        tokenIds: randomPrompt(index, 4, vocab),
        maxTokens: 1,
      })
    // Each is called once, the least popular first, as days of traffic would leave the tiers.
    const todo = pulls.map((_, index) => index)
    const worker = async () => {
      for (let index = todo.pop(); index !== undefined; index = todo.pop()) await shortCall(index)
    }
    await Promise.all(Array.from({ length: CLIENTS }, worker))
    lap('each called once')

    const random = mulberry32(7)
    const draw = zipf(registered, ALPHA, random)
    const inFlight = new Set<number>()
    let arm: Arm = 'resident'
    let turn = 0
    const choose = (): number => {
      if (arm === 'resident') return turn++ % RESIDENT
      for (;;) {
        const index = draw()
        if (!inFlight.has(index)) return index
      }
    }
    const between = ([least, most]: readonly [number, number]): number =>
      least + Math.floor(random() * (most - least + 1))
    let tokens = 0
    let requests = 0
    let stopped = false
    const client = async (number: number) => {
      while (!stopped) {
        const index = choose()
        inFlight.add(index)
        requests++
        await call({
          tenant: `tenant-${number}`,
          adapters: [pulls[index]!],
          tokenIds: randomPrompt(requests, between(PROMPT), vocab),
          maxTokens: between(ANSWER),
          onToken: () => tokens++,
        })
        inFlight.delete(index)
      }
    }
    const clients = Promise.all(Array.from({ length: CLIENTS }, (_, i) => client(i)))
    clients.catch(() => {})
    const rates: Record<Arm, number[]> = { resident: [], registered: [] }
    const loads: number[] = []
    const order: Arm[] = ['resident', 'registered']
    const window = async () => {
      const before = await readMetrics(runner)
      const [from, begin] = [tokens, performance.now()]
      await Promise.race([sleep(seconds.measure), clients])
      const took = (performance.now() - begin) / 1000
      const after = await readMetrics(runner)
      const bankLoads =
        after('graft_bank_load_seconds_count') - before('graft_bank_load_seconds_count')
      return { rate: (tokens - from) / took, loads: bankLoads / took, after }
    }
    for (let round = 0; round < rounds; round++) {
      for (const next of order) {
        arm = next
        // What runs of the other arm ends, and its successors take the slots.
        await Promise.race([sleep(seconds.settle), clients])
        const { rate, loads: perSecond } = await window()
        rates[next].push(rate)
        if (next === 'registered') loads.push(perSecond)
      }
      order.reverse()
      lap(`round ${round + 1} of ${rounds}`)
    }
    const metrics = await readMetrics(runner)
    stopped = true
    await clients
    // Without a load nothing of what is asked was measured.
    const measured = median(loads) > 0
    const ratios = rates.registered.map((rate, i) => rate / rates.resident[i]!)
    return {
      ratio: measured ? rounded(median(rates.registered) / median(rates.resident)) : null,
      ...(measured
        ? {}
        : { why: 'this machine was too busy: no adapter came in while it was measured' }),
      ratio_by_round: summary(ratios),
      registered_tokens_per_s: summary(rates.registered),
      resident_tokens_per_s: summary(rates.resident),
      bank_loads_per_s: summary(loads),
      bank_load_ms: Number(
        (
          (1000 * metrics('graft_bank_load_seconds_sum')) /
          metrics('graft_bank_load_seconds_count')
        ).toPrecision(3),
      ),
      evictions: metrics('graft_bank_evictions_total'),
      registered,
      registered_of_the_full_run: 1000,
      bank_adapters: BANK_ADAPTERS,
      host_adapters: hostAdapters,
      resident_adapters: RESIDENT,
      slots: SLOTS,
      clients: CLIENTS,
      zipf_alpha: ALPHA,
      prompt_tokens: PROMPT,
      answer_tokens: ANSWER,
      rank: RANK,
      file_mb: Number((fileBytes / 1e6).toPrecision(3)),
      shape: '135m',
      base_precision: opened.engine.info.precision,
      bank_precision: opened.engine.info.bankPrecision,
    }
  },
}

const sleep = (seconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, 1000 * seconds))

const laps = (progress: (line: string) => void) => {
  let last = performance.now()
  return (what: string): void => {
    progress(`${what} (${((performance.now() - last) / 1000).toFixed(1)} s)`)
    last = performance.now()
  }
}
