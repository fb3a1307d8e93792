import type { Digest } from '@graft/sdk/format/digest.ts'
import type { Scheduler } from '../scheduler/scheduler.ts'

/**
 * Logits of every position of a prompt, run through the scheduler beside everybody else's rows,
 * in chunks and on the share of the tenant that asked. [tokens x vocab]
 */
export function scorePrompt(
  scheduler: Scheduler,
  job: { requestId: string; tenant: string; adapter: Digest | null; tokenIds: number[] },
  signal: AbortSignal,
): Promise<Float32Array> {
  const { requestId, tenant, adapter, tokenIds } = job
  return new Promise((resolve, reject) => {
    const chunks: Float32Array[] = []
    const cancel = scheduler.submit({
      requestId,
      tenant,
      adapters: adapter === null ? [] : [{ digest: adapter, weight: 1 }],
      tokenIds,
      logits: 'all',
      background: true,
      deadline: null,
      onLogits(logits) {
        // The engine may reuse its buffer for the next step.
        chunks.push(logits.slice())
        return null
      },
      onEnd(error) {
        signal.removeEventListener('abort', cancel)
        if (error) return reject(error)
        const all = new Float32Array(chunks.reduce((n, chunk) => n + chunk.length, 0))
        let at = 0
        for (const chunk of chunks) {
          all.set(chunk, at)
          at += chunk.length
        }
        resolve(all)
      },
    })
    signal.addEventListener('abort', cancel)
    if (signal.aborted) cancel()
  })
}
