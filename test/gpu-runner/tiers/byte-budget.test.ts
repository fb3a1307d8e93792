import { ByteBudget } from '@graft/runner/tiers/byte-budget.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

const MIB = 1024 * 1024

const fill = (budget: ByteBudget<string>, key: string, bytes: number): string[] | null => {
  const left = budget.claim(bytes)
  if (left) budget.commit(key, bytes)
  return left
}

describe('a byte budget', () => {
  it('lets the least recently used leave where sizes are alike', () => {
    const budget = new ByteBudget<string>(30)
    for (const key of ['a', 'b', 'c']) fill(budget, key, 10)
    budget.touch('a')
    expect(fill(budget, 'd', 10)).toEqual(['b'])
    expect(fill(budget, 'e', 10)).toEqual(['c'])
    expect(fill(budget, 'f', 10)).toEqual(['a'])
  })

  it('weighs order of use by size: the small one that is cheap to keep stays longer', () => {
    const budget = new ByteBudget<string>(100 * MIB)
    fill(budget, 'small', MIB / 8)
    fill(budget, 'large', 60 * MIB)
    expect(fill(budget, 'next', 60 * MIB)).toEqual(['large'])
    expect(budget.has('small')).toBe(true)
  })

  it('does not keep a small one for ever: each that leaves raises the floor for those that stay', () => {
    const budget = new ByteBudget<string>(4 * MIB)
    fill(budget, 'small', MIB / 4)
    let rounds = 0
    while (budget.has('small') && rounds < 100) fill(budget, `large ${rounds++}`, 2 * MIB)
    expect(rounds).toBeGreaterThan(2)
    expect(rounds).toBeLessThan(20)
  })

  it('evicts nothing when not even everything without a pin would give room', () => {
    const budget = new ByteBudget<string>(30)
    fill(budget, 'a', 10)
    fill(budget, 'b', 15)
    const release = budget.pin('b')!
    expect(budget.claim(20)).toBeNull()
    expect(budget.has('a')).toBe(true)
    release()
    expect(budget.claim(28)).toEqual(['b', 'a'])
  })

  it('counts a pinned item that was removed until its last pin is gone', () => {
    const budget = new ByteBudget<string>(30)
    fill(budget, 'a', 20)
    const [one, two] = [budget.pin('a')!, budget.pin('a')!]
    budget.remove('a')
    expect([budget.has('a'), budget.used]).toEqual([false, 20])
    expect(budget.claim(20)).toBeNull()
    one()
    one()
    expect(budget.used).toBe(20)
    two()
    expect(budget.used).toBe(0)
  })

  it('keeps an item in place that is replaced while it is held', () => {
    const budget = new ByteBudget<string>(100)
    fill(budget, 'c', 0)
    const release = budget.pin('c')!
    fill(budget, 'c', 46)
    expect(budget.claim(55)).toBeNull()
    expect(budget.entries()).toMatchObject([{ key: 'c', bytes: 46, pins: 1 }])
    release()
    expect(budget.claim(55)).toEqual(['c'])
    expect(budget.used).toBe(55)
  })

  it('is never passed and never evicts a pin, whatever happens in whatever order', () => {
    const key = fc.constantFrom('a', 'b', 'c', 'd', 'e')
    const bytes = fc.integer({ min: 0, max: 60 })
    const action = fc.oneof(
      fc.record({ do: fc.constant('fill' as const), key, bytes }),
      fc.record({ do: fc.constant('abort' as const), key, bytes }),
      fc.record({ do: fc.constant('pin' as const), key, bytes }),
      fc.record({ do: fc.constant('unpin' as const), key, bytes }),
      fc.record({ do: fc.constant('remove' as const), key, bytes }),
    )
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const budget = new ByteBudget<string>(100)
        const pins: { key: string; release: () => void; removed: boolean }[] = []
        let claimed = 0
        for (const step of actions) {
          if (step.do === 'fill') {
            const left = fill(budget, step.key, step.bytes) ?? []
            for (const held of pins) if (!held.removed) expect(left).not.toContain(held.key)
          }
          if (step.do === 'abort' && budget.claim(step.bytes)) {
            claimed += step.bytes
            expect(budget.used).toBeLessThanOrEqual(100)
            budget.cancel(step.bytes)
            claimed -= step.bytes
          }
          if (step.do === 'pin') {
            const release = budget.pin(step.key)
            if (release) pins.push({ key: step.key, release, removed: false })
          }
          if (step.do === 'unpin') pins.pop()?.release()
          if (step.do === 'remove') {
            budget.remove(step.key)
            // A later item of the same key is another one: these hold the bytes of the old.
            for (const held of pins) if (held.key === step.key) held.removed = true
          }
          expect(budget.used).toBeLessThanOrEqual(100)
        }
        for (const { release } of pins.splice(0)) release()
        expect(budget.used).toBe(budget.entries().reduce((sum, item) => sum + item.bytes, claimed))
      }),
    )
  })
})
