import type { Digest } from '@graft/sdk/format/digest.ts'
import type { Scheduler } from '../scheduler/scheduler.ts'

/**
 * Logits of a prompt at ascending positions, run through the scheduler beside everybody else's rows, in chunks and on
 * the share of the tenant that asked. [positions x vocab]
 */
export function scorePrompt(
  scheduler: Scheduler,
  job: {
    requestId: string
    tenant: string
    adapter: Digest | null
    tokenIds: number[]
    positions: number[]
    vocab: number
  },
  signal: AbortSignal,
): Promise<Float32Array> {
  const { requestId, tenant, adapter, tokenIds, positions, vocab } = job
  return new Promise((resolve, reject) => {
    const out = new Float32Array(positions.length * vocab)
    let read = 0
    const cancel = scheduler.submit({
      requestId,
      tenant,
      adapters: adapter === null ? [] : [{ digest: adapter, weight: 1 }],
      tokenIds,
      maxTokens: 0,
      logits: 'all',
      background: true,
      deadline: null,
      onLogits(logits) {
        // Only what is asked for is kept: all positions of a large vocabulary would be gigabytes.
        const until = read + logits.length / vocab
        for (const [i, at] of positions.entries())
          if (at >= read && at < until)
            out.set(logits.subarray((at - read) * vocab, (at - read + 1) * vocab), i * vocab)
        read = until
        return null
      },
      onEnd(error) {
        signal.removeEventListener('abort', cancel)
        if (error) reject(error)
        else resolve(out)
      },
    })
    signal.addEventListener('abort', cancel)
    if (signal.aborted) cancel()
  })
}
