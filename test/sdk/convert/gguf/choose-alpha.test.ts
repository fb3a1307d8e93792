import { chooseAlpha, factorOf, isExact, scaleOf } from '@graft/convert/gguf/choose-alpha.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

const ranks = fc.integer({ min: 1, max: 256 })
const alphas = fc.double({ min: 0.01, max: 512, noNaN: true })

describe('the one alpha of a GGUF', () => {
  it('gives adapters of one rank their scale in the last digit of f32, by whatever rule it was made', () => {
    fc.assert(
      fc.property(ranks, alphas, fc.boolean(), (rank, alpha, rsLora) => {
        const scale = alpha / (rsLora ? Math.sqrt(rank) : rank)
        const chosen = chooseAlpha([{ scale, rank }])
        expect(Math.fround(chosen)).toBe(chosen)
        expect(factorOf({ scale, rank }, chosen)).toBe(1)
        expect(Math.abs(scaleOf(chosen, rank) / scale - 1)).toBeLessThan(2 ** -23)
      }),
    )
  })

  it('is exact for LoRA whose alpha is an f32, whatever ranks its modules have', () => {
    fc.assert(
      fc.property(
        fc.array(ranks, { minLength: 1, maxLength: 6 }),
        alphas.map(Math.fround),
        (list, alpha) => {
          const updates = list.map((rank) => ({ rank, scale: alpha / rank }))
          const chosen = chooseAlpha(updates)
          expect(updates.every((one) => isExact(one, chosen))).toBe(true)
        },
      ),
    )
  })

  it('is that of most updates, the largest of equals, and none when every scale is 0', () => {
    const [a, b] = [
      { scale: 2, rank: 4 },
      { scale: 2, rank: 8 },
    ]
    expect(chooseAlpha([a, b, a])).toBe(8)
    expect(chooseAlpha([b, a])).toBe(16)
    expect(chooseAlpha([a, b])).toBe(16)
    expect(factorOf(a, 16)).toBe(0.5)
    expect(chooseAlpha([{ scale: 0, rank: 4 }])).toBe(-Infinity)
    expect(factorOf({ scale: 0, rank: 4 }, 8)).toBe(0)
  })
})
