import type { StepSample } from '@graft/runner/engine/merged/merging-engine.ts'
import { decideMerge } from '@graft/runner/merging/merge-policy.ts'
import { gainMs, type MergeCosts, measureCosts } from '@graft/runner/merging/step-costs.ts'
import { createTrafficWindow, type Traffic } from '@graft/runner/merging/traffic.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { describe, expect, test } from 'vitest'

const [hot, cold] = [fromHex('a'.repeat(64)), fromHex('c'.repeat(64))]
const WINDOW_MS = 60_000

type Row = StepSample['rows'][number]
const row = (adapter: Row['adapter'], merged = false): Row => ({ adapter, merged })
const rows = (count: number, adapter: Row['adapter'], merged = false): Row[] =>
  Array.from({ length: count }, () => row(adapter, merged))

/** A window of steps, `times` of each. */
function traffic(...steps: { rows: Row[]; ms: number; times: number }[]): Traffic {
  const window = createTrafficWindow(WINDOW_MS)
  for (const { times, ...step } of steps)
    for (let i = 0; i < times; i++)
      window.add({ ...step, decode: true, positions: step.rows.length * 10 }, 0)
  return window.read(0)
}

/** A run of n rows takes 10 + n ms here, adapter operations 4 ms more. */
const RUNS = { runMs: 10, rowMs: 1, positionMs: 0 }
const COSTS: MergeCosts = { runMs: 10, adapterMs: 4, overlap: 1 }
const decide = (seen: Traffic, change: Partial<Parameters<typeof decideMerge>[0]> = {}) =>
  decideMerge({
    traffic: seen,
    costs: COSTS,
    merged: [],
    barred: new Set(),
    room: 1,
    rebuildMs: 300,
    ...change,
  })

describe('the window', () => {
  test('tells runs of the base, of the bank and of several engines apart', () => {
    const seen = traffic(
      { rows: rows(4, null), ms: 14, times: 2 },
      { rows: rows(3, hot, true), ms: 13, times: 1 },
      { rows: [...rows(2, hot), row('sum')], ms: 17, times: 3 },
      { rows: [...rows(5, hot, true), row(cold)], ms: 30, times: 4 },
      { rows: [...rows(1, hot, true), row(null)], ms: 22, times: 5 },
    )
    expect(seen.plain).toEqual({ count: 3, ms: 41, rows: 11, positions: 110 })
    expect(seen.banked).toEqual({ count: 3, ms: 51, rows: 9, positions: 90 })
    expect(seen.split).toEqual({
      ...{ count: 9, ms: 230, rows: 34, positions: 340 },
      ...{ extraRuns: 9, adapted: 4 },
    })
    expect(seen.adapters.get(hot)).toEqual({ count: 13, rows: 34, mixed: 12, mixedAdapted: 7 })
    expect(seen.adapters.get(cold)).toEqual({ count: 4, rows: 4, mixed: 0, mixedAdapted: 0 })
    expect(seen.adapters.size).toBe(2)
  })

  test('forgets what is older than itself, and does not count prompts', () => {
    const window = createTrafficWindow(WINDOW_MS)
    const step = { rows: [row(hot)], ms: 5, positions: 1 }
    window.add({ ...step, decode: true }, 0)
    window.add({ ...step, decode: true }, 40_000)
    window.add({ ...step, decode: false }, 40_000)
    expect(window.read(40_000).banked.count).toBe(2)
    expect(window.read(61_000).banked.count).toBe(1)
    expect(window.read(200_000).banked.count).toBe(0)
  })
})

describe('the cost model', () => {
  test('finds what adapter operations and second runs cost, also on a machine that became slower', () => {
    for (const pace of [1, 2]) {
      const seen = traffic(
        { rows: rows(6, null), ms: pace * 16, times: 30 },
        { rows: rows(6, hot), ms: pace * 20, times: 30 },
        // 10 + 6, and of the second run's 10 + 4 one half is waited for.
        { rows: [...rows(5, hot, true), row(cold)], ms: pace * 23, times: 30 },
      )
      expect(measureCosts(RUNS, seen, null)).toEqual({
        runMs: pace * 10,
        adapterMs: pace * 4,
        overlap: 0.5,
      })
    }
  })

  test('knows nothing before adapters ran, and keeps what it knew when they run no more', () => {
    const plain = traffic({ rows: rows(6, hot, true), ms: 16, times: 50 })
    expect(measureCosts(RUNS, plain, null)).toBe(null)
    expect(measureCosts(RUNS, plain, { ...COSTS, overlap: 0.7 })).toEqual({
      ...{ runMs: 10, adapterMs: 4, overlap: 0.7 },
    })
  })

  test('weighs adapter operations saved against second runs', () => {
    const steps = { count: 100, rows: 800, mixed: 0, mixedAdapted: 0 }
    expect(gainMs(COSTS, steps)).toBe(400)
    expect(gainMs(COSTS, { ...steps, mixed: 20 })).toBe(200)
    expect(gainMs(COSTS, { ...steps, mixed: 20, mixedAdapted: 20 })).toBe(120)
    expect(gainMs({ ...COSTS, overlap: 0.5 }, { ...steps, mixed: 20 })).toBe(300)
  })
})

describe('the decision', () => {
  const dominated = (mixed: number) =>
    traffic(
      { rows: rows(8, hot), ms: 22, times: 200 - mixed },
      { rows: [...rows(7, hot), row(cold)], ms: 22, times: mixed },
    )

  test('merges an adapter whose saving in the window is more than a rebuild costs', () => {
    // 200 steps save 4 ms; each mixed one costs a run of 10 + 4.
    expect(decide(dominated(0))).toEqual({ do: 'merge', digest: hot, gainMs: 800 })
    expect(decide(dominated(30))).toEqual({ do: 'merge', digest: hot, gainMs: 380 })
    expect(decide(dominated(40))).toEqual({ do: 'nothing' })
    expect(decide(dominated(40), { rebuildMs: 200 })).toMatchObject({ do: 'merge' })
  })

  test('keeps a form until it costs more than it saves: a share between the two changes nothing', () => {
    const merged = { merged: [hot], room: 0 }
    const served = (mixed: number) =>
      traffic(
        { rows: rows(8, hot, true), ms: 18, times: 200 - mixed },
        { rows: [...rows(7, hot, true), row(cold)], ms: 32, times: mixed },
      )
    expect(decide(served(30), merged)).toEqual({ do: 'nothing' })
    expect(decide(served(57), merged)).toEqual({ do: 'nothing' })
    expect(decide(served(58), merged)).toEqual({ do: 'unmerge', digest: hot, gainMs: -12 })
    // Nothing runs: it costs nothing.
    expect(decide(traffic(), merged)).toEqual({ do: 'nothing' })
  })

  test('gives the only room to another adapter when that is worth a rebuild', () => {
    const seen = (coldSteps: number) =>
      traffic(
        { rows: rows(8, hot, true), ms: 18, times: 50 },
        { rows: rows(8, cold), ms: 22, times: coldSteps },
      )
    const full = { merged: [hot], room: 0 }
    expect(decide(seen(124), full)).toEqual({ do: 'nothing' })
    expect(decide(seen(125), full)).toEqual({ do: 'unmerge', digest: hot, gainMs: 200 })
    expect(decide(seen(125), { ...full, room: 1 })).toMatchObject({ do: 'merge', digest: cold })
  })

  test('leaves alone what is barred, what was hardly seen, and gains within the noise', () => {
    expect(decide(dominated(0), { barred: new Set([hot]) })).toEqual({ do: 'nothing' })
    const few = traffic({ rows: rows(8, hot), ms: 22, times: 19 })
    expect(decide(few, { rebuildMs: 0 })).toEqual({ do: 'nothing' })
    const tiny = { costs: { ...COSTS, adapterMs: 0.5 }, rebuildMs: 0 }
    expect(decide(dominated(0), tiny)).toEqual({ do: 'nothing' })
    expect(decide(dominated(0), { ...tiny, costs: { ...COSTS, adapterMs: 0.7 } })).toMatchObject({
      do: 'merge',
    })
  })
})
