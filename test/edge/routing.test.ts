import type { Runner } from '@graft/edge/fleet/fleet.ts'
import { LOAD_BOUND, rankRunners } from '@graft/edge/routing/rank-runners.ts'
import { hash32, rendezvous } from '@graft/edge/routing/rendezvous.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import fc from 'fast-check'
import { expect, it } from 'vitest'

const digest = (n: number) => `sha256:${n.toString(16).padStart(64, '0')}` as Digest
const BASE = digest(0)
const runner = (id: string, change: Partial<Runner['status']> = {}, seenAt = 0): Runner => ({
  url: `http://${id}`,
  draining: false,
  seenAt,
  status: {
    id,
    build: '',
    base: { name: 'b', digest: BASE },
    operations: [],
    maxPositions: 1,
    slots: 8,
    running: 0,
    waiting: 0,
    tokensPerSecond: 0,
    residency: [],
    key: {},
    ...change,
  },
})
const rank = (runners: Runner[], adapters: Digest[], open: Record<string, number> = {}, now = 0) =>
  rankRunners({
    base: BASE,
    adapters,
    operations: [],
    runners,
    open: (id) => open[id] ?? 0,
    now,
  }).map(({ status }) => status.id)
const eight = () => Array.from({ length: 8 }, (_, i) => runner(`r${i}`))

it('sends an adapter to the same runner whatever order the fleet is listed in', () => {
  const runners = eight()
  for (let n = 1; n < 50; n++)
    expect(rank(runners, [digest(n)])).toEqual(rank([...runners].reverse(), [digest(n)]))
})

it('moves only the adapters of a runner that leaves', () => {
  const runners = eight()
  for (let n = 1; n < 200; n++) {
    const [home] = rank(runners, [digest(n)])
    const [next] = rank(runners.slice(1), [digest(n)])
    if (home !== 'r0') expect(next).toBe(home)
  }
})

it('spreads adapters over the fleet', () => {
  const counts = new Map<string, number>()
  for (let n = 1; n <= 800; n++) {
    const [home] = rank(eight(), [digest(n)])
    counts.set(home!, (counts.get(home!) ?? 0) + 1)
  }
  expect(counts.size).toBe(8)
  for (const count of counts.values()) expect(count).toBeGreaterThan(60)
})

it('prefers a runner with the adapter in its bank, then one that has it in memory', () => {
  const adapter = digest(9)
  const plain = eight()
  const [home] = rank(plain, [adapter])
  const [banked, hosted] = plain.filter(({ status }) => status.id !== home)
  banked!.status.residency = [{ digest: adapter, tier: 'bank', bytes: 1 }]
  hosted!.status.residency = [{ digest: adapter, tier: 'host', bytes: 1 }]
  expect(rank(plain, [adapter]).slice(0, 3)).toEqual([banked!.status.id, hosted!.status.id, home])
})

it('does not believe a residency report that is ten seconds old', () => {
  const adapter = digest(9)
  const plain = eight()
  const [home] = rank(plain, [adapter])
  const other = plain.find(({ status }) => status.id !== home)!
  other.status.residency = [{ digest: adapter, tier: 'bank', bytes: 1 }]
  expect(rank(plain, [adapter], {}, 9_999)[0]).toBe(other.status.id)
  expect(rank(plain, [adapter], {}, 10_000)[0]).toBe(home)
})

it('spills a hot adapter before its runner carries more than the bound', () => {
  const open: Record<string, number> = {}
  const runners = eight()
  for (let i = 0; i < 400; i++) {
    const [id] = rank(runners, [digest(5)], open)
    open[id!] = (open[id!] ?? 0) + 1
  }
  const loads = runners.map(({ status }) => open[status.id] ?? 0)
  expect(Math.max(...loads)).toBeLessThanOrEqual((400 / 8) * LOAD_BOUND + 1)
})

it('sends a call for the base alone to the least loaded runner', () => {
  const runners = [
    runner('a', { running: 4 }),
    runner('b', { running: 1 }),
    runner('c', { waiting: 2 }),
  ]
  expect(rank(runners, [])).toEqual(['b', 'c', 'a'])
  expect(rank(runners, [], { b: 8 })[0]).toBe('c')
})

it('leaves out who drains and who serves another base', () => {
  const draining = { ...runner('a'), draining: true }
  const other = runner('b', { base: { name: 'x', digest: digest(77) } })
  expect(rank([draining, other, runner('c')], [digest(1)])).toEqual(['c'])
})

it('leaves out who does not know an operation of the adapter', () => {
  const one = runner('one', { operations: ['low_rank'] })
  const two = runner('two', { operations: ['low_rank', 'magnitude'] })
  const question = { base: BASE, adapters: [digest(1)], runners: [one, two], open: () => 0, now: 0 }
  expect(rankRunners({ ...question, operations: ['magnitude'] })).toEqual([two])
  expect(rankRunners({ ...question, operations: ['magnitude', 'prefix'] })).toEqual([])
})

it('ranks every node exactly once', () =>
  fc.assert(
    fc.property(fc.uniqueArray(fc.string(), { maxLength: 20 }), fc.string(), (ids, key) => {
      expect([...rendezvous(ids, (id) => id, key)].sort()).toEqual([...ids].sort())
      expect(hash32(key)).toBe(hash32(key))
    }),
  ))
