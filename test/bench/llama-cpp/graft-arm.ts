import type { Engine, LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { createChoice } from '@graft/runner/generation/choice.ts'
import type { Scheduler } from '@graft/runner/scheduler/scheduler.ts'
import type { TextCodec } from '@graft/runner/tokenizer/tokenizer.ts'
import { type Answer, type Mode, type Request, samplingOf } from './answer.ts'

export interface GraftArm {
  engine: Engine
  scheduler: Scheduler
  codec: TextCodec
}

/** Sends the requests at once, each for a tenant of its own, through queue, batch, sampling and detokenising. */
export async function askGraft(
  { scheduler, codec }: GraftArm,
  requests: readonly Request[],
  adapters: readonly (LoadedAdapter | null)[],
  mode: Mode,
  maxTokens: number,
): Promise<Answer[]> {
  const begin = performance.now()
  return Promise.all(
    requests.map(({ promptIds, seed }, row) => {
      const sampling = samplingOf(mode, seed)
      const choice = createChoice({
        codec,
        promptIds,
        resumed: [],
        sampling,
        choice: 0,
        maxTokens,
      })
      const answer: Answer = { tokenIds: [], text: '', firstMs: 0, lastMs: 0 }
      const adapter = adapters[row]
      return new Promise<Answer>((resolve, reject) => {
        scheduler.submit({
          requestId: `row-${row}`,
          tenant: `tenant-${row}`,
          adapters: adapter ? [{ digest: adapter.digest, weight: 1 }] : [],
          tokenIds: promptIds,
          logits: 'last',
          background: false,
          deadline: null,
          onLogits(logits) {
            const { frames, next } = choice.step(logits)
            for (const frame of frames)
              if (frame.type === 'tokens') {
                answer.tokenIds.push(...frame.tokenIds)
                answer.text += frame.text
              }
            answer.lastMs = performance.now() - begin
            answer.firstMs ||= answer.lastMs
            return next
          },
          onEnd: (error) => (error ? reject(error) : resolve(answer)),
        })
      })
    }),
  )
}
