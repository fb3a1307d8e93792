import { GraftError } from '@graft/sdk/format/errors.ts'
import { errorLine } from './sse-lines.ts'

/**
 * Lines as a response body. Nothing is pulled that nobody asked for, so that what is billed is what was taken, and
 * `stop` runs when the client is gone. A client that takes `overdueMs` to read is stopped too: it would otherwise keep
 * a runner's slot, or read on after its hold has expired.
 */
export function pulledBody(options: {
  lines: AsyncGenerator<string, void>
  stop: () => Promise<unknown>
  overdueMs: number
  requestId: string
}): ReadableStream<Uint8Array> {
  const { lines, stop, overdueMs, requestId } = options
  const encoder = new TextEncoder()
  let overdue = false
  const timer = setTimeout(() => {
    overdue = true
    void stop().catch(() => {})
  }, overdueMs)
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await lines.next()
        if (!done) return controller.enqueue(encoder.encode(value))
        clearTimeout(timer)
        if (overdue) {
          const late = new GraftError('ERR_DEADLINE', `the call took longer than ${overdueMs} ms`)
          controller.enqueue(encoder.encode(errorLine(late, requestId)))
        }
        controller.close()
      },
      async cancel() {
        clearTimeout(timer)
        await stop()
      },
    },
    { highWaterMark: 0 },
  )
}
