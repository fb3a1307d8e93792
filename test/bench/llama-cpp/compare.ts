import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { createScheduler } from '@graft/runner/scheduler/scheduler.ts'
import type { BenchOptions } from '../bench.ts'
import { randomLora } from '../random-adapters.ts'
import { randomBase } from '../random-base.ts'
import { openRandomEngine } from '../random-engine.ts'
import { SHAPES } from '../shapes.ts'
import { rounded, speedRatio, summary } from '../statistics.ts'
import type { Answer, Mode, Request } from './answer.ts'
import { askGraft, type GraftArm } from './graft-arm.ts'
import { openLlama } from './llama-arm.ts'
import { writeBaseGguf, writeLoraGguf } from './llama-gguf.ts'
import { FIRST_WORD, wordCodec } from './vocabulary.ts'
import { onGrid, type WeightClass } from './weight-class.ts'

const ROWS = 16
const RANK = 16
const PROMPT = 100
const OUTPUT = 64
const THREADS = 2
/** Tokens of an answer that only warms up. */
const WARM_UP = 4
/** Positions of one sequence in llama.cpp: prompt and answer, in its own multiples of 256. */
const CONTEXT = 256

/** New prompts every round: neither side may remember the last ones. */
const requestsOf = (round: number, count: number): Request[] =>
  Array.from({ length: count }, (_, row) => ({
    seed: 1 + round * ROWS + row,
    promptIds: Array.from(
      { length: PROMPT },
      (_, i) => FIRST_WORD + ((round * 6007 + row * 7919 + i * 104_729 + i * i * 31) % 48_000),
    ),
  }))

const wholeMs = (answers: Answer[]): number => Math.max(...answers.map(({ lastMs }) => lastMs))

/**
 * Requests as users send them, through queue, batch, sampling and detokenising, against node-llama-cpp on the same weights.
 * @returns how many times as fast Graft is, and what explains it
 */
export async function compareWithLlama(weights: WeightClass, { quick, progress }: BenchOptions) {
  const folder = await mkdtemp(join(tmpdir(), 'graft-bench-'))
  await using stack = new AsyncDisposableStack()
  stack.defer(() => rm(folder, { recursive: true, force: true }))
  const checkpoint = onGrid(randomBase('random-135m', SHAPES['135m']), weights)
  const { config } = checkpoint
  const adapters = Array.from({ length: ROWS }, (_, i) => randomLora(i + 1, config, RANK))
  const baseFile = join(folder, 'base.gguf')
  const loraFile = join(folder, 'lora.gguf')
  await writeBaseGguf(baseFile, checkpoint, weights)
  await writeLoraGguf(loraFile, adapters[0]!, config.headDim)
  const llama = stack.use(await openLlama(baseFile, THREADS))
  const peer = {
    sixteen: await llama.openContext(ROWS, CONTEXT, loraFile),
    base: await llama.openContext(ROWS, CONTEXT, null),
    one: await llama.openContext(1, CONTEXT, loraFile),
    oneBase: await llama.openContext(1, CONTEXT, null),
  }
  progress('llama.cpp has the base and one adapter')
  const engine = stack.use(
    await openRandomEngine(checkpoint, {
      slots: ROWS,
      threads: THREADS,
      precision: weights.precision,
    }),
  )
  for (const adapter of adapters) await engine.load(adapter)
  const scheduler = stack.use(createScheduler({ engine, now: Date.now }))
  const graft: GraftArm = { engine, scheduler, codec: wordCodec(config.vocab) }
  const own = adapters.slice(0, ROWS)
  const nobody: null[] = Array(ROWS).fill(null)
  progress(`Graft has the base and ${ROWS} adapters`)

  const ask = (
    rows: (LoadedAdapter | null)[],
    requests: Request[],
    mode: Mode,
    output: number = OUTPUT,
  ) => askGraft(graft, requests, rows, mode, output)
  const ms: Record<string, number[]> = {}
  const note = (arm: string, value: number) => (ms[arm] ??= []).push(value)
  const agreement = { same_first_token: 0, of: 0, same_prefix_tokens: [] as number[] }

  const armsOfSixteen = (
    requests: Request[],
    mode: Mode,
    output: number,
  ): [string, () => Promise<Answer[]>][] => {
    const adapted: [string, () => Promise<Answer[]>][] = [
      ['graft_mixed', () => ask(own, requests, mode, output)],
      ['llama_one_adapter', () => peer.sixteen.ask(requests, mode, output)],
    ]
    // A quick run has no time for the base.
    if (quick) return adapted
    return [
      ...adapted,
      ['graft_base', () => ask(nobody, requests, mode, output)],
      ['llama_base', () => peer.base.ask(requests, mode, output)],
    ]
  }
  const sixteen = async (round: number, mode: Mode) => {
    const arms = armsOfSixteen(requestsOf(round, ROWS), mode, OUTPUT)
    if (round % 2 === 1) arms.reverse()
    const answers: Record<string, Answer[]> = {}
    for (const [arm, run] of arms) {
      answers[arm] = await run()
      note(`${arm}.${mode}`, wholeMs(answers[arm]))
    }
    if (mode === 'greedy' && !quick) compare(answers['graft_base']!, answers['llama_base']!)
  }
  const compare = (ours: Answer[], theirs: Answer[]) => {
    for (const [row, { tokenIds }] of ours.entries()) {
      const other = theirs[row]!.tokenIds
      agreement.of++
      if (tokenIds[0] === other[0]) agreement.same_first_token++
      const differs = tokenIds.findIndex((id, i) => id !== other[i])
      agreement.same_prefix_tokens.push(differs < 0 ? tokenIds.length : differs)
    }
  }
  const single = async (round: number) => {
    const requests = requestsOf(1000 + round, 1)
    const arms: [string, () => Promise<Answer[]>][] = [
      ['graft', () => ask([own[0]!], requests, 'greedy')],
      ['llama', () => peer.one.ask(requests, 'greedy', OUTPUT)],
      ['graft_base', () => ask([null], requests, 'greedy')],
      ['llama_base', () => peer.oneBase.ask(requests, 'greedy', OUTPUT)],
    ]
    if (round % 2 === 1) arms.reverse()
    const answers: Record<string, Answer[]> = {}
    for (const [arm, run] of arms) {
      answers[arm] = await run()
      const [{ firstMs, lastMs }] = answers[arm] as [Answer]
      note(`${arm}_prefill`, firstMs)
      note(`${arm}_decode`, lastMs - firstMs)
    }
    compare(answers['graft']!, answers['llama']!)
  }

  // Fills caches and compiles what runs first; a few tokens do for the arms of 16.
  await single(-1)
  for (const [, run] of armsOfSixteen(requestsOf(999, ROWS), 'top-p', WARM_UP)) await run()
  for (const arm of Object.keys(ms)) delete ms[arm]
  progress('warm')
  const singles = quick ? 4 : 12
  for (let round = 0; round < singles; round++) await single(round)
  progress(`${singles} single requests`)
  const rounds = quick ? 1 : 5
  for (let round = 0; round < rounds; round++)
    for (const mode of ['greedy', 'top-p'] as const) {
      await sixteen(2 * round + (mode === 'greedy' ? 0 : 1), mode)
      progress(`round ${round + 1} of ${rounds}, ${mode}`)
    }

  const mixed = {
    greedy: speedRatio(ms['llama_one_adapter.greedy']!, ms['graft_mixed.greedy']!),
    'top-p': speedRatio(ms['llama_one_adapter.top-p']!, ms['graft_mixed.top-p']!),
  }
  return {
    mixed_16: Math.min(mixed.greedy.ratio, mixed['top-p'].ratio),
    single_decode: speedRatio(ms['llama_decode']!, ms['graft_decode']!).ratio,
    single_prefill: speedRatio(ms['llama_prefill']!, ms['graft_prefill']!).ratio,
    mixed_16_by_sampling: mixed,
    single_base: {
      decode: speedRatio(ms['llama_base_decode']!, ms['graft_base_decode']!).ratio,
      prefill: speedRatio(ms['llama_base_prefill']!, ms['graft_base_prefill']!).ratio,
    },
    base_16: Object.fromEntries(
      (['greedy', 'top-p'] as const).flatMap((mode) => {
        const theirs = ms[`llama_base.${mode}`]
        return theirs ? [[mode, speedRatio(theirs, ms[`graft_base.${mode}`]!).ratio]] : []
      }),
    ),
    tokens_per_s: tokensPerSecond(ms),
    ms: Object.fromEntries(Object.entries(ms).map(([arm, values]) => [arm, summary(values)])),
    same_weights_check: agreement,
    prompt: PROMPT,
    output: OUTPUT,
    threads: THREADS,
    shape: '135m',
    rank: RANK,
    base_precision: weights.names,
    bank_precision: engine.info.bankPrecision,
    includes: 'queue, prompts, sampling, detokenising',
  }
}

/** Answer tokens per second of the arms of 16, prompts included. */
const tokensPerSecond = (ms: Record<string, number[]>) =>
  Object.fromEntries(
    Object.entries(ms)
      .filter(([arm]) => arm.includes('.'))
      .map(([arm, values]) => [arm, rounded((1000 * ROWS * OUTPUT) / summary(values).median)]),
  )
