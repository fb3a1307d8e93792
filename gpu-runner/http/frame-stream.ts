import { GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import type { Frame } from '@graft/sdk/protocol/runner-api.ts'
import { errorFrame } from '../generation/generate.ts'

/** Frames as application/x-ndjson, written as they come. The reader going away calls `onCancel`. */
export function frameStream(
  frames: AsyncIterableIterator<Frame>,
  hooks: { onFrame: (frame: Frame) => void; onCancel: () => void; onDefect: (e: unknown) => void },
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder()
  const line = (frame: Frame): Uint8Array => encoder.encode(`${JSON.stringify(frame)}\n`)
  // The reader may go while a frame is awaited; its stream is closed by then.
  let gone = false
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { value, done } = await frames.next()
        if (gone) return
        if (done) return controller.close()
        hooks.onFrame(value)
        controller.enqueue(line(value))
      } catch (e) {
        if (gone) return
        if (!isGraftError(e)) hooks.onDefect(e)
        const error = isGraftError(e) ? e : new GraftError('ERR_INTERNAL', 'the runner failed')
        hooks.onFrame(errorFrame(error))
        controller.enqueue(line(errorFrame(error)))
        controller.close()
      }
    },
    async cancel() {
      gone = true
      hooks.onCancel()
      await frames.return?.()
    },
  })
}
