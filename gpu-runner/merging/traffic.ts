import type { Digest } from '@graft/sdk/format/digest.ts'
import type { StepSample } from '../engine/merged/merging-engine.ts'

/** Sums over decode steps of one kind. */
export interface Steps {
  count: number
  ms: number
  rows: number
  /** Positions that the rows attend to. */
  positions: number
}

/** How often one adapter stood in a step, alone with weight 1. */
export interface AdapterSteps {
  count: number
  rows: number
  /** Of these, steps in which the base engine has rows of somebody else: a merged form would be a second run. */
  mixed: number
  /** Of the mixed ones, those in which somebody else's row has an adapter. */
  mixedAdapted: number
}

/** Decode steps of a stretch of time. */
export interface Traffic {
  /** One run without adapter operations: the base alone, or one merged form alone. */
  plain: Steps
  /** One run with adapter operations. */
  banked: Steps
  /** Several runs; `extraRuns` beyond the first, `adapted` steps with adapter operations in one of them. */
  split: Steps & { extraRuns: number; adapted: number }
  adapters: Map<Digest, AdapterSteps>
}

export interface TrafficWindow {
  add(sample: StepSample, now: number): void
  /** Everything younger than the window. */
  read(now: number): Traffic
}

const steps = (): Steps => ({ count: 0, ms: 0, rows: 0, positions: 0 })
export const noTraffic = (): Traffic => ({
  plain: steps(),
  banked: steps(),
  split: { ...steps(), extraRuns: 0, adapted: 0 },
  adapters: new Map(),
})

/** Parts of the window that are dropped at once: memory does not grow with the number of steps. */
const BUCKETS = 60

export function createTrafficWindow(windowMs: number): TrafficWindow {
  const bucketMs = windowMs / BUCKETS
  const buckets = new Map<number, Traffic>()
  const drop = (now: number): void => {
    for (const number of buckets.keys())
      if (number <= Math.floor(now / bucketMs) - BUCKETS) buckets.delete(number)
  }
  return {
    add(sample, now) {
      if (!sample.decode || sample.rows.length === 0) return
      drop(now)
      const number = Math.floor(now / bucketMs)
      const bucket = buckets.get(number) ?? noTraffic()
      buckets.set(number, bucket)
      count(bucket, sample)
    },
    read(now) {
      drop(now)
      const sum = noTraffic()
      for (const bucket of buckets.values()) addTo(sum, bucket)
      return sum
    },
  }
}

function count(traffic: Traffic, { ms, rows, positions }: StepSample): void {
  const onBase = rows.filter(({ merged }) => !merged)
  const adapted = onBase.some(({ adapter }) => adapter !== null)
  const forms = new Set(rows.flatMap(({ adapter, merged }) => (merged ? [adapter] : [])))
  const runs = forms.size + (onBase.length > 0 ? 1 : 0)
  const kind = runs > 1 ? traffic.split : adapted ? traffic.banked : traffic.plain
  kind.count++
  kind.ms += ms
  kind.rows += rows.length
  kind.positions += positions
  if (runs > 1) {
    traffic.split.extraRuns += runs - 1
    if (adapted) traffic.split.adapted++
  }
  for (const adapter of new Set(rows.map((row) => row.adapter))) {
    if (adapter === null || adapter === 'sum') continue
    const others = onBase.filter((row) => row.adapter !== adapter)
    const of = traffic.adapters.get(adapter) ?? { count: 0, rows: 0, mixed: 0, mixedAdapted: 0 }
    traffic.adapters.set(adapter, of)
    of.count++
    of.rows += rows.filter((row) => row.adapter === adapter).length
    if (others.length > 0) of.mixed++
    if (others.some((row) => row.adapter !== null)) of.mixedAdapted++
  }
}

function addTo(sum: Traffic, part: Traffic): void {
  addFields(sum.plain, part.plain)
  addFields(sum.banked, part.banked)
  addFields(sum.split, part.split)
  for (const [digest, counts] of part.adapters) {
    const of = sum.adapters.get(digest) ?? { count: 0, rows: 0, mixed: 0, mixedAdapted: 0 }
    sum.adapters.set(digest, of)
    addFields(of, counts)
  }
}

function addFields<T extends { [key in keyof T]: number }>(sum: T, part: T): void {
  for (const key of Object.keys(part) as (keyof T)[])
    sum[key] = (sum[key] + part[key]) as T[keyof T]
}
