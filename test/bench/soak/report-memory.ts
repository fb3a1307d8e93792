import { isMainThread } from 'node:worker_threads'

/** Loaded into the runner's process by --import: answers every message with what the process holds. */
export interface MemoryReport {
  rss: number
  heapUsed: number
  external: number
  /** Microseconds of both kinds, since the start. */
  cpu: { user: number; system: number }
}

if (isMainThread && process.send) {
  process.on('message', () => {
    const { rss, heapUsed, external } = process.memoryUsage()
    const report: MemoryReport = { rss, heapUsed, external, cpu: process.cpuUsage() }
    process.send?.(report)
  })
  // Being asked for memory is no reason to stay alive.
  process.channel?.unref()
}
