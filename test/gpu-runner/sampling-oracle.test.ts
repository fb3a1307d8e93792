import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { adjustLogits } from '@graft/runner/sampling/adjust-logits.ts'
import { candidatesOf } from '@graft/runner/sampling/candidates.ts'
import { tokenLogprobs } from '@graft/runner/sampling/logprobs.ts'
import type { Sampling } from '@graft/sdk/protocol/runner-api.ts'
import { describe, expect, it } from 'vitest'

/** Made by fixtures/make-sampling.py: the probabilities that transformers' processors leave. */
interface Case {
  logits: number[]
  prompt: number[]
  answer: number[]
  settings: Partial<Sampling>
  /** Ids that may be drawn, ascending, and their probabilities. */
  kept: number[]
  probabilities: number[]
}

const cases: Case[] = JSON.parse(
  readFileSync(join(import.meta.dirname, 'fixtures/sampling.json'), 'utf8'),
)

const plain = {
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  logitBias: {},
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
}

const counts = (ids: number[]) => {
  const found = new Map<number, number>()
  for (const id of ids) found.set(id, (found.get(id) ?? 0) + 1)
  return found
}

describe('sampling beside transformers', () => {
  it.each(cases.map((one, i) => [i, JSON.stringify(one.settings), one] as const))(
    'case %i leaves the probabilities of its processors for %s',
    (_, __, { logits, prompt, answer, settings, kept, probabilities }) => {
      const sampling = { ...plain, ...settings }
      const history = { prompt: new Set(prompt), output: counts(answer) }
      const row = adjustLogits(Float32Array.from(logits), sampling, history)
      const { count, ids, weights, mass } = candidatesOf(row, sampling)
      expect([...ids.subarray(0, count)]).toEqual(kept)
      for (const [i, p] of probabilities.entries()) expect(weights[i]! / mass).toBeCloseTo(p, 6)
    },
  )

  it('takes logprobs of the chosen token and the top from the unprocessed row', () => {
    const plainCase = cases.find(({ settings }) => Object.keys(settings).length === 0)!
    const { logits, probabilities } = plainCase
    const best = [...probabilities.keys()].sort((a, b) => probabilities[b]! - probabilities[a]!)
    const { logprob, top } = tokenLogprobs(Float32Array.from(logits), 5, 20)
    expect(logprob).toBeCloseTo(Math.log(probabilities[5]!), 5)
    expect(top.map(({ id }) => id)).toEqual(best.slice(0, 20))
    for (const row of top) expect(row.logprob).toBeCloseTo(Math.log(probabilities[row.id]!), 5)
  })
})
