import type { StepRecord } from '@graft/sdk/protocol/runner-api.ts'

/** A ring of the last steps: what ran beside what, for operators and for tests of isolation. */
export const STEP_LOG_SIZE = 10_000

export interface StepLog {
  add(record: Omit<StepRecord, 'step'>): void
  /** Steps with a number above `after`, oldest first. */
  after(step: number): StepRecord[]
}

export function createStepLog(size = STEP_LOG_SIZE): StepLog {
  const ring: StepRecord[] = []
  let next = 1
  return {
    add(record) {
      ring[(next - 1) % size] = { step: next, ...record }
      next++
    },
    after(step) {
      const first = Math.max(1, next - size, step + 1)
      return Array.from(
        { length: Math.max(0, next - first) },
        (_, i) => ring[(first + i - 1) % size]!,
      )
    },
  }
}
