import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Engine } from '@graft/runner/engine/engine.ts'
import { argmax } from '@graft/runner/sampling/argmax.ts'
import { type Bench, PEERS } from './bench.ts'
import { timed } from './interleave.ts'
import { randomPast } from './random-adapters.ts'
import { randomBase } from './random-base.ts'
import { openRandomEngine } from './random-engine.ts'
import { openRows, randomPrompt } from './rows.ts'
import { SHAPES } from './shapes.ts'
import { speedRatio, summary } from './statistics.ts'
import { exportModel } from './transformers-js/export-model.ts'
import { openTransformersJs } from './transformers-js/transformers-arm.ts'

const ROWS = 16
const THREADS = 2
const PASTS = { batch_16_short: 100, batch_16_long: 1000 }
const CHECK = { rows: 4, prompt: 40, output: 12 }

/** Decoding 16 rows of the base, greedily, against the same weights in transformers.js. */
export const vsTransformersJs: Bench = {
  about: 'decoding 16 rows of the base against transformers.js, past 100 and 1,000',
  needs: PEERS,
  async run({ quick, progress }) {
    const folder = await mkdtemp(join(tmpdir(), 'graft-bench-'))
    await using stack = new AsyncDisposableStack()
    stack.defer(() => rm(folder, { recursive: true, force: true }))
    const shape = SHAPES['135m']
    const checkpoint = randomBase('random-135m', shape)
    await exportModel(folder, checkpoint)
    const peer = await openTransformersJs(folder, THREADS)
    const engine = stack.use(await openRandomEngine(checkpoint, { slots: ROWS, threads: THREADS }))
    progress('both have the base')

    const prompts = Array.from({ length: CHECK.rows }, (_, row) =>
      randomPrompt(row + 1, CHECK.prompt, shape.vocab),
    )
    const theirs = await peer.answer(prompts, CHECK.output)
    const ours: number[][] = []
    for (const [row, prompt] of prompts.entries())
      ours.push(await greedyAnswer(engine, 9000 + row, prompt, CHECK.output))
    const same = ours.map((ids, row) => {
      const differs = ids.findIndex((id, i) => id !== theirs[row]![i])
      return differs < 0 ? ids.length : differs
    })
    progress(`same weights: ${same.join(', ')} of ${CHECK.output} tokens alike`)

    const results: Record<string, ReturnType<typeof speedRatio>> = {}
    const stepMs: Record<string, { graft: object; transformers_js: object }> = {}
    for (const [key, past] of Object.entries(PASTS)) {
      // Both sides start from a past of made-up keys and values.
      const before = randomPast(past, checkpoint.config, past)
      await engine.load(before)
      const rows = await openRows(engine, past * 100, Array(ROWS).fill(before), 0, argmax)
      await rows.step()
      const ms = { graft: [] as number[], peer: [] as number[] }
      const rounds = quick ? 2 : 6
      const steps = 5
      for (let round = 0; round < rounds; round++) {
        const theirTurn = async () => ms.peer.push(...(await peer.decode(ROWS, past, steps, shape)))
        const ourTurn = async () => {
          for (let i = 0; i < steps; i++) ms.graft.push(await timed(rows.step))
        }
        for (const turn of round % 2 === 0 ? [theirTurn, ourTurn] : [ourTurn, theirTurn])
          await turn()
        progress(`${key}: round ${round + 1} of ${rounds}`)
      }
      await rows.close()
      results[key] = speedRatio(ms.peer, ms.graft)
      stepMs[key] = { graft: summary(ms.graft), transformers_js: summary(ms.peer) }
    }
    return {
      batch_16_short: results['batch_16_short']!.ratio,
      batch_16_long: results['batch_16_long']!.ratio,
      by_round: Object.fromEntries(
        Object.entries(results).map(([k, { by_round }]) => [k, by_round]),
      ),
      step_ms: stepMs,
      pasts: PASTS,
      same_weights_check: { ...CHECK, tokens_alike: same },
      ran: `@huggingface/transformers ${peer.version} itself: generate(), greedy, from a folder of its own layout that this bench writes (dtype q4, GroupQueryAttention, KV cache as outputs)`,
      measured: 'whole decode steps, choice of the token included',
      threads: THREADS,
      shape: '135m',
      base_precision: { graft: engine.info.precision, transformers_js: 'q4' },
    }
  },
}

async function greedyAnswer(engine: Engine, sequence: number, prompt: number[], count: number) {
  await engine.open(sequence, [])
  const answer: number[] = []
  let tokenIds = prompt
  while (answer.length < count) {
    const { rows } = await engine.step([{ sequence, tokenIds, logits: 'last' }])
    tokenIds = [argmax(rows[0]!.logits)]
    answer.push(...tokenIds)
  }
  await engine.close(sequence)
  return answer
}
