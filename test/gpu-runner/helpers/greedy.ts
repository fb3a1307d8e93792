import type { Sampling } from '@graft/sdk/protocol/runner-api.ts'

/** The most probable token, whatever came before. */
export const GREEDY: Sampling = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
  logitBias: {},
  seed: 1,
  stop: [],
  logprobs: null,
}
