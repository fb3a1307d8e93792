import { adjustLogits } from '@graft/runner/sampling/adjust-logits.ts'
import { argmax } from '@graft/runner/sampling/argmax.ts'
import { type Cuts, candidatesOf } from '@graft/runner/sampling/candidates.ts'
import { expOfNegative } from '@graft/runner/sampling/exp.ts'
import { tokenLogprobs } from '@graft/runner/sampling/logprobs.ts'
import { randomUnit } from '@graft/runner/sampling/random.ts'
import { sampleToken } from '@graft/runner/sampling/sample.ts'
import { createStopMatcher } from '@graft/runner/sampling/stop-matcher.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

const open = { temperature: 1, topK: 0, topP: 1, minP: 0 }
const still = { logitBias: {}, presencePenalty: 0, frequencyPenalty: 0, repetitionPenalty: 1 }
const nothing = { prompt: new Set<number>(), output: new Map<number, number>() }
const ids = (logits: Float32Array, cuts: Cuts) => {
  const { count, ids: found } = candidatesOf(logits, cuts)
  return [...found.subarray(0, count)]
}

describe('random numbers', () => {
  it('are SplitMix64: seed 0 starts with the published 0xe220a8397b1dcdaf', () => {
    // The first outputs of the generator with seed 0; our number is three rounds of the same function.
    const M = (1n << 64n) - 1n
    const next = (z0: bigint) => {
      let z = (z0 + 0x9e3779b97f4a7c15n) & M
      z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & M
      z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & M
      return z ^ (z >> 31n)
    }
    expect(next(0n)).toBe(0xe220a8397b1dcdafn)
    expect(randomUnit(0, 0, 0)).toBe(Number(next(next(next(0n))) >> 11n) / 2 ** 53)
  })

  it('depend on seed, choice and position, each by itself, and on nothing else', () => {
    const numbers = [
      randomUnit(1, 0, 0),
      randomUnit(0, 1, 0),
      randomUnit(0, 0, 1),
      randomUnit(-1, 0, 0),
    ]
    expect(new Set(numbers).size).toBe(4)
    expect(randomUnit(7, 3, 11)).toBe(randomUnit(7, 3, 11))
    expect(randomUnit(42, 0, 5)).toBe(0.1865749379649535)
  })

  it('are uniform: 20,000 of them fill ten bins within four standard deviations', () => {
    const bins = new Array<number>(10).fill(0)
    for (let i = 0; i < 20_000; i++) bins[Math.floor(randomUnit(5, 0, i) * 10)]!++
    for (const count of bins) expect(Math.abs(count - 2_000)).toBeLessThan(4 * Math.sqrt(1_800))
  })
})

describe('sampling', () => {
  const logits = Float32Array.from([1, 3, 3, 0, 2])

  it('is greedy at temperature 0, and the lowest id wins a tie', () => {
    expect(argmax(logits)).toBe(1)
    expect(sampleToken(logits, { ...open, temperature: 0 }, 0.99)).toBe(1)
  })

  it('top-k keeps k tokens, of equals the lowest ids', () => {
    expect(ids(logits, { ...open, topK: 1 })).toEqual([1])
    expect(ids(logits, { ...open, topK: 3 })).toEqual([1, 2, 4])
  })

  it('top-p keeps the fewest tokens that reach the mass', () => {
    const p = Float32Array.from([0.5, 0.3, 0.15, 0.05], Math.log)
    expect(ids(p, { ...open, topP: 0.4 })).toEqual([0])
    expect(ids(p, { ...open, topP: 0.6 })).toEqual([0, 1])
    expect(ids(p, { ...open, topP: 0.9 })).toEqual([0, 1, 2])
    expect(ids(p, { ...open, topP: 1 })).toEqual([0, 1, 2, 3])
  })

  it('min-p keeps what is at least that share of the most probable', () => {
    const p = Float32Array.from([0.5, 0.3, 0.15, 0.05], Math.log)
    expect(ids(p, { ...open, minP: 0.25 })).toEqual([0, 1, 2])
  })

  it('draws in proportion to the softmax at the temperature', () => {
    const p = Float32Array.from([0.6, 0.3, 0.1], Math.log)
    const counts = [0, 0, 0]
    for (let i = 0; i < 10_000; i++) counts[sampleToken(p, open, randomUnit(1, 0, i))]!++
    for (const [i, share] of [0.6, 0.3, 0.1].entries())
      expect(counts[i]! / 10_000).toBeCloseTo(share, 1.5)
    // At half the temperature probabilities are squared: 36 : 9 : 1.
    const { weights: sharp } = candidatesOf(p, { ...open, temperature: 0.5 })
    expect(sharp[1]! / sharp[0]!).toBeCloseTo(9 / 36, 5)
  })

  it('top-k and top-p agree with a plain sort, whatever the logits', () => {
    const logit = fc.integer({ min: -5, max: 5 }).map((n) => n / 2)
    fc.assert(
      fc.property(
        fc.array(logit, { minLength: 1, maxLength: 40 }),
        fc.integer({ min: 1, max: 40 }),
        fc.double({ min: 0.01, max: 0.999, noNaN: true }),
        (values, topK, topP) => {
          const row = Float32Array.from(values)
          const order = [...row.keys()].sort((a, b) => row[b]! - row[a]! || a - b)
          expect(ids(row, { ...open, topK })).toEqual(order.slice(0, topK).sort((a, b) => a - b))
          const all = row.map((value) => Math.exp(value - Math.max(...row)))
          const total = all.reduce((a, b) => a + b, 0)
          let mass = 0
          let count = 0
          while (count < order.length && (count === 0 || mass < topP * total))
            mass += all[order[count++]!]!
          expect(ids(row, { ...open, topP })).toEqual(order.slice(0, count).sort((a, b) => a - b))
        },
      ),
    )
  })

  it('reads e^z to 1e-13 of it, over all of its range', () => {
    fc.assert(
      fc.property(fc.double({ min: -700, max: 0, noNaN: true }), (z) => {
        expect(Math.abs(expOfNegative(z) / Math.exp(z) - 1)).toBeLessThan(1e-13)
      }),
    )
    expect(expOfNegative(0)).toBe(1)
    expect(expOfNegative(-1_000)).toBe(0)
    expect(expOfNegative(Number.NEGATIVE_INFINITY)).toBe(0)
  })

  it('never picks a token that was cut, for any number in [0, 1)', () => {
    const cuts = { ...open, topK: 2 }
    for (const unit of [0, 0.25, 0.5, 0.75, 1 - 2 ** -53])
      expect([1, 2]).toContain(sampleToken(logits, cuts, unit))
  })
})

describe('penalties and bias', () => {
  const logits = Float32Array.from([2, -2, 1, 0])
  const history = {
    prompt: new Set([0, 1]),
    output: new Map([
      [2, 3],
      [1, 1],
    ]),
  }

  it('leave the logits as they are, the very array, when there are none', () => {
    expect(adjustLogits(logits, still, history)).toBe(logits)
  })

  it('repetition: positive logits divided, negative multiplied, prompt and answer, each token once', () => {
    const out = adjustLogits(logits, { ...still, repetitionPenalty: 2 }, history)
    expect([...out]).toEqual([1, -4, 0.5, 0])
  })

  it('presence and frequency: from the answer alone, once and per count', () => {
    const out = adjustLogits(
      logits,
      { ...still, presencePenalty: 0.5, frequencyPenalty: 0.25 },
      history,
    )
    expect([...out]).toEqual([2, -2.75, -0.25, 0])
  })

  it('bias is added by id; an id beyond the vocabulary is no token', () => {
    const out = adjustLogits(logits, { ...still, logitBias: { '3': 5, '99': 5 } }, nothing)
    expect([...out]).toEqual([2, -2, 1, 5])
  })
})

describe('logprobs', () => {
  it('are those of the softmax over the raw logits, best first, equals by id', () => {
    const row = Float32Array.from([0.1, 0.4, 0.1, 0.4], Math.log)
    const { id, logprob, top } = tokenLogprobs(row, 2, 3)
    expect(id).toBe(2)
    expect(Math.exp(logprob)).toBeCloseTo(0.1, 6)
    expect(top.map((t) => t.id)).toEqual([1, 3, 0])
    expect(Math.exp(top[0]!.logprob)).toBeCloseTo(0.4, 6)
  })

  it('asked for none give the chosen one alone', () => {
    expect(tokenLogprobs(Float32Array.from([1, 2]), 0, 0).top).toEqual([])
  })
})

describe('stop strings', () => {
  it('are found across pieces, and the text before them is whole', () => {
    const matcher = createStopMatcher(['END', '\n\n'])
    expect(matcher.push('one E')).toEqual({ text: 'one ', stop: null })
    expect(matcher.push('N')).toEqual({ text: '', stop: null })
    expect(matcher.push('Dless')).toEqual({ text: '', stop: 'END' })
  })

  it('let go of what turned out not to be one', () => {
    const matcher = createStopMatcher(['END'])
    expect(matcher.push('E')).toEqual({ text: '', stop: null })
    expect(matcher.push('Exit')).toEqual({ text: 'EExit', stop: null })
    expect(matcher.push('EN').text).toBe('')
    expect(matcher.flush()).toBe('EN')
  })

  it('agree with indexOf on the whole text, however it is cut', () => {
    const letters = fc.stringMatching(/^[ab]{0,12}$/)
    fc.assert(
      fc.property(
        fc.array(letters, { maxLength: 8 }),
        fc.array(fc.stringMatching(/^[ab]{1,4}$/), { maxLength: 3 }),
        (pieces, stops) => {
          const matcher = createStopMatcher(stops)
          let text = ''
          let stop: string | null = null
          for (const piece of pieces) {
            const got = matcher.push(piece)
            text += got.text
            if ((stop = got.stop) !== null) break
          }
          if (stop === null) text += matcher.flush()
          const whole = pieces.join('')
          const ends = stops.map((s) => whole.indexOf(s)).filter((at) => at >= 0)
          expect(text.startsWith(whole.slice(0, text.length))).toBe(true)
          for (const s of stops) expect(text.includes(s)).toBe(false)
          expect(stop === null).toBe(ends.length === 0)
          if (stop === null) expect(text).toBe(whole)
        },
      ),
    )
  })
})
