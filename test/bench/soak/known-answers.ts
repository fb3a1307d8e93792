import type { Digest } from '@graft/sdk/format/digest.ts'
import type { Sampling } from '@graft/sdk/protocol/runner-api.ts'
import { GREEDY } from '../../gpu-runner/helpers/greedy.ts'
import type { Ask, RunnerCaller } from './call-runner.ts'
import type { Callable, Catalogue } from './catalogue.ts'

/** A request and the greedy answer that it had when nothing else ran. */
export interface KnownAnswer {
  ask: Ask
  tokens: number[]
}

export const MAX_TOKENS = 32
/**
 * Natural log units. Batched fp32 sums differ in their last bits; where the two best tokens are nearer than this either
 * is right, and the answer is compared only up to there.
 */
const NEAR_TIE = 1e-3

export const greedy = (logprobs: number | null): Sampling => ({ ...GREEDY, logprobs })

export const askFor = (base: Digest, callable: Callable, text: string, tenant: string): Ask => ({
  tenant,
  base,
  adapters: callable.adapters.map((pull) => ({ ...pull, capability: null })),
  prompt: { kind: 'text', text },
  sampling: greedy(null),
  maxTokens: MAX_TOKENS,
  n: 1,
  deadline: null,
})

/** Asks for everything once, one request at a time. */
export async function learnAnswers(
  runner: RunnerCaller,
  { base, callables }: Catalogue,
): Promise<KnownAnswer[][]> {
  const known: KnownAnswer[][] = []
  for (const [i, callable] of callables.entries()) {
    const answers: KnownAnswer[] = []
    for (const prompt of callable.prompts) {
      const ask = askFor(base, callable, prompt, `tenant-${i % 5}`)
      const { tokens, margins, end } = await runner.generate({ ...ask, sampling: greedy(2) })
      if (end !== 'done') throw new Error(`${callable.label} alone ended with ${end}`)
      const tie = margins.findIndex((margin) => margin < NEAR_TIE)
      answers.push({ ask, tokens: tie < 0 ? tokens : tokens.slice(0, tie) })
    }
    known.push(answers)
  }
  return known
}
