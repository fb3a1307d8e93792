import type { Frame } from '@graft/sdk/protocol/runner-api.ts'

export interface FrameQueue {
  push(frame: Frame): void
  end(): void
  fail(error: unknown): void
  /** Frames in order; leaving the loop early calls onReturn. To be called once. */
  frames(): AsyncIterableIterator<Frame>
}

/** Carries frames from the step loop to one reader. Bounded by the answer itself: at most maxTokens frames a choice. */
export function createFrameQueue(onReturn: () => void): FrameQueue {
  const held: Frame[] = []
  let over = false
  let error: unknown
  let wake = (): void => {}
  async function* frames(): AsyncGenerator<Frame> {
    try {
      for (;;) {
        while (held.length > 0) yield held.shift()!
        if (error !== undefined) throw error
        if (over) return
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    } finally {
      if (!over) onReturn()
    }
  }
  return {
    push(frame) {
      if (over) return
      held.push(frame)
      wake()
    },
    end() {
      over = true
      wake()
    },
    fail(e) {
      error = e
      wake()
    },
    frames,
  }
}
