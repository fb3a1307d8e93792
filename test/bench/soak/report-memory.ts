import { getHeapStatistics } from 'node:v8'
import { BroadcastChannel, isMainThread } from 'node:worker_threads'

/** What the runner's process holds, bytes. Each thread has a heap of its own; resident memory is of all. */
export interface MemoryReport {
  rss: number
  /** Of both threads together. */
  heapUsed: number
  /** Outside the heaps, but known to them: array buffers. */
  external: number
  /** Microseconds of both kinds, since the start. */
  cpu: { user: number; system: number }
}

const CHANNEL = 'graft-soak-memory'
const PERIOD_MS = 1_000

const own = () => {
  const { used_heap_size, external_memory } = getHeapStatistics()
  return { heapUsed: used_heap_size, external: external_memory }
}

// Loaded by --import into every thread of the runner: the engine's thread tells the main one, which answers its parent.
const channel = new BroadcastChannel(CHANNEL)
channel.unref()
if (!isMainThread) setInterval(() => channel.postMessage(own()), PERIOD_MS).unref()
else if (process.send) {
  let engine = { heapUsed: 0, external: 0 }
  channel.onmessage = (event) => {
    engine = (event as unknown as { data: typeof engine }).data
  }
  process.on('message', () => {
    const main = own()
    const report: MemoryReport = {
      rss: process.memoryUsage.rss(),
      heapUsed: main.heapUsed + engine.heapUsed,
      external: main.external + engine.external,
      cpu: process.cpuUsage(),
    }
    process.send?.(report)
  })
  // Being asked for memory is no reason to stay alive.
  process.channel?.unref()
}
