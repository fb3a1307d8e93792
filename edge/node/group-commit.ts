import { GraftError } from '@graft/sdk/format/errors.ts'
import type { SyncSql } from '../ledger/sql.ts'

interface Job {
  run: () => unknown
  resolve: (value: unknown) => void
  reject: (error: unknown) => void
}

/**
 * Runs operations that arrive in the same turn of the event loop in one commit, each in a savepoint of its own: a hold
 * costs a wait for the disk, and many holds at once need not wait one after the other. Nothing is answered before it
 * is on the disk.
 */
export function createGroupCommit(sql: SyncSql & { inTransaction(): boolean }) {
  let waiting: Job[] = []
  function flush(): void {
    const jobs = waiting
    waiting = []
    const answers: (() => void)[] = []
    try {
      sql.transaction(() => {
        for (const job of jobs) {
          answers.push(attempt(job))
          if (!sql.inTransaction())
            throw new GraftError('ERR_LEDGER_UNAVAILABLE', 'the ledger rolled back; try again')
        }
      })
    } catch (error) {
      for (const { reject } of jobs) reject(error)
      return
    }
    for (const answer of answers) answer()
  }
  function attempt({ run, resolve, reject }: Job): () => void {
    try {
      const value = run()
      return () => resolve(value)
    } catch (error) {
      return () => reject(error)
    }
  }
  return {
    submit: <T>(run: () => T): Promise<T> =>
      new Promise<T>((resolve, reject) => {
        if (waiting.length === 0) setImmediate(flush)
        waiting.push({ run, resolve: resolve as (value: unknown) => void, reject })
      }),
    /** Commits what waits. */
    flush(): void {
      if (waiting.length > 0) flush()
    },
  }
}
