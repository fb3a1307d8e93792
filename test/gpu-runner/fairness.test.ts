import { type Claim, createFairShares } from '@graft/runner/scheduler/fair-shares.ts'
import { planStep } from '@graft/runner/scheduler/policy.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

interface Arrival extends Omit<Claim, 'id'> {
  /** Step at which it comes. */
  at: number
  /** Tokens that its answer has; at most maxTokens. */
  answer: number
}

/** What a claim that stands first among its adapter's saw until it got a slot. */
interface Wait {
  claim: Claim
  /** Tokens fed to others meanwhile, and the bound of fair-shares.ts for it. */
  tokens: number
  bound: number
  steps: number
}

interface Run {
  waits: Wait[]
  /** Tokens fed by tenant and flow, while all arrivals of the run were known. */
  fed: Map<string, number>
}

/** The scheduler's loop without an engine: slots by the shares, tokens by the policy. */
function simulate(arrivals: Arrival[], slots: number, steps = Number.POSITIVE_INFINITY): Run {
  const shares = createFairShares()
  const open: { claim: Claim; answer: number; prompt: number; done: number }[] = []
  const waiting: (Claim & { answer: number })[] = []
  const heads = new Map<Claim, Wait & { weights: Map<string, number>; flows: Set<string> }>()
  const fed = new Map<string, number>()
  const waits: Wait[] = []
  const due = [...arrivals].sort((a, b) => a.at - b.at)
  const longest = Math.max(...arrivals.map((a) => a.promptTokens + a.answer))
  let id = 0
  for (let now = 0; now < steps && due.length + waiting.length + open.length > 0; now++) {
    while (due.length > 0 && due[0]!.at <= now) {
      const { at: _, ...claim } = due.shift()!
      const one = { ...claim, id: ++id }
      waiting.push(one)
      shares.join(one)
    }
    const seen = new Set<string>()
    const firsts = waiting.filter(({ tenant, flow }) => {
      const key = `${tenant}/${flow}`
      return !seen.has(key) && seen.add(key)
    })
    const tenants = new Map(
      [...waiting, ...open.map((one) => one.claim)].map((one) => [one.tenant, one.weight]),
    )
    for (const claim of firsts) {
      const fresh = { weights: new Map<string, number>(), flows: new Set<string>() }
      const wait = heads.get(claim) ?? { claim, tokens: 0, bound: 0, steps: 0, ...fresh }
      heads.set(claim, wait)
      for (const [tenant, weight] of tenants) wait.weights.set(tenant, weight)
      for (const { tenant, flow } of firsts) if (tenant === claim.tenant) wait.flows.add(flow)
    }
    while (open.length < slots) {
      const claim = shares.next()
      if (!claim) break
      const at = waiting.findIndex((one) => one.id === claim.id)
      const [taken] = waiting.splice(at, 1)
      open.push({ claim: taken!, answer: taken!.answer, prompt: claim.promptTokens, done: 0 })
      const wait = heads.get(taken!)
      if (wait) {
        const all = [...wait.weights.values()].reduce((a, b) => a + b, 0)
        const { size } = wait.weights
        const turns = ((2 * wait.flows.size - 1) * all) / claim.weight + size - 1
        waits.push({ ...wait, bound: slots * longest * turns })
        heads.delete(taken!)
      }
    }
    const plan = planStep({
      running: open.map(({ claim, prompt, done }) => ({
        id: claim.id,
        pending: Math.max(1, prompt - done),
        decoding: done >= prompt,
      })),
      tokenBudget: 2 * slots,
      chunkTokens: 4,
    })
    const tokens = plan.reduce((sum, row) => sum + row.tokens, 0)
    if (open.length === slots) expect(tokens).toBeGreaterThanOrEqual(slots)
    for (const wait of heads.values()) {
      wait.tokens += tokens
      wait.steps++
    }
    for (const { id: fedId, tokens: count } of plan) {
      const at = open.findIndex(({ claim }) => claim.id === fedId)
      const row = open[at]!
      row.done += count
      shares.feed(fedId, count)
      const key = `${row.claim.tenant}/${row.claim.flow}`
      fed.set(key, (fed.get(key) ?? 0) + count)
      if (row.done < row.prompt + row.answer) continue
      open.splice(at, 1)
      shares.leave(fedId)
    }
  }
  return { waits, fed }
}

const burst = fc.record({
  at: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 1_500 })),
  tenant: fc.constantFrom('a', 'b', 'c', 'd'),
  flow: fc.constantFrom('', 'x', 'y'),
  promptTokens: fc.integer({ min: 1, max: 6 }),
  answer: fc.integer({ min: 1, max: 8 }),
  spare: fc.integer({ min: 0, max: 8 }),
  count: fc.oneof(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 20, max: 150 })),
})
const WEIGHTS: Record<string, number> = { a: 1, b: 1, c: 3, d: 0.5 }

describe('shares of the slots', () => {
  it('keep every wait within the stated bound, whatever arrives', () => {
    let longest = 0
    fc.assert(
      fc.property(
        fc.array(burst, { minLength: 2, maxLength: 8 }),
        fc.integer({ min: 1, max: 4 }),
        (bursts, slots) => {
          const arrivals = bursts.flatMap(({ count, spare, ...one }) =>
            Array.from({ length: count }, () => ({
              ...one,
              maxTokens: one.answer + spare,
              weight: WEIGHTS[one.tenant]!,
            })),
          )
          const { waits } = simulate(arrivals, slots)
          for (const { tokens, bound, steps } of waits) {
            expect(tokens).toBeLessThanOrEqual(bound)
            expect(steps).toBeLessThanOrEqual(bound / slots)
            longest = Math.max(longest, tokens / bound)
          }
        },
      ),
      { numRuns: 120 },
    )
    // A bound that nothing comes near would say nothing.
    expect(longest).toBeGreaterThan(0.3)
  })

  const many = (one: Partial<Arrival>, count: number): Arrival[] =>
    Array.from({ length: count }, () => ({
      at: 0,
      tenant: 'a',
      weight: 1,
      flow: '',
      promptTokens: 3,
      answer: 5,
      maxTokens: 5,
      ...one,
    }))

  it('give tenants tokens in the proportion of their weights', () => {
    const arrivals = [
      ...many({ tenant: 'a', weight: 1 }, 500),
      ...many({ tenant: 'b', weight: 3, promptTokens: 1, answer: 2 }, 2_000),
    ]
    const { fed } = simulate(arrivals, 4, 600)
    expect(fed.get('b/')! / fed.get('a/')!).toBeCloseTo(3, 0.5)
  })

  it('give adapters of a tenant the same, and the tenant no more for having many', () => {
    const arrivals = [
      ...many({ tenant: 'a', flow: 'x' }, 500),
      ...many({ tenant: 'a', flow: 'y', promptTokens: 1, answer: 3 }, 500),
      ...many({ tenant: 'b' }, 500),
    ]
    const { fed } = simulate(arrivals, 4, 600)
    expect(fed.get('a/x')! / fed.get('a/y')!).toBeCloseTo(1, 0.5)
    expect((fed.get('a/x')! + fed.get('a/y')!) / fed.get('b/')!).toBeCloseTo(1, 0.5)
  })

  it('do not charge for an answer that was reserved and not written', () => {
    const arrivals = [
      ...many({ tenant: 'a', answer: 4, maxTokens: 100_000 }, 500),
      ...many({ tenant: 'b', answer: 4, maxTokens: 4 }, 500),
    ]
    const { fed } = simulate(arrivals, 4, 600)
    expect(fed.get('a/')! / fed.get('b/')!).toBeCloseTo(1, 0.5)
  })

  it('let a tenant that was idle wait its turn: idling saves up no claim', () => {
    const arrivals = [
      ...many({ tenant: 'busy', promptTokens: 1, answer: 7 }, 400),
      ...many({ tenant: 'idle' }, 1),
      ...many({ tenant: 'idle', at: 300, promptTokens: 1, answer: 7 }, 200),
    ]
    const { fed } = simulate(arrivals, 2, 600)
    // Two tokens a step, 300 steps together: half for each, and not all for who comes back.
    expect(Math.abs(fed.get('idle/')! - 300)).toBeLessThan(30)
  })
})
