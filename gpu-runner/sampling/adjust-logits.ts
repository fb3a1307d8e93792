import type { Sampling } from '@graft/sdk/protocol/runner-api.ts'

/** What has been read and written so far; penalties are functions of it. */
export interface TokenHistory {
  prompt: ReadonlySet<number>
  /** How often each token stands in the answer. */
  output: ReadonlyMap<number, number>
}

type Adjustments = Pick<
  Sampling,
  'logitBias' | 'presencePenalty' | 'frequencyPenalty' | 'repetitionPenalty'
>

/** [vocab] logits with bias and penalties applied; the given array when there are none. */
export function adjustLogits(
  logits: Float32Array,
  sampling: Adjustments,
  history: TokenHistory,
): Float32Array {
  const { logitBias, presencePenalty, frequencyPenalty, repetitionPenalty } = sampling
  const biases = Object.entries(logitBias)
  const still = presencePenalty === 0 && frequencyPenalty === 0 && repetitionPenalty === 1
  if (still && biases.length === 0) return logits
  const out = logits.slice()
  for (const [id, bias] of biases) if (Number(id) < out.length) out[Number(id)]! += bias
  if (repetitionPenalty !== 1) {
    // CTRL (arXiv 1909.05858): over prompt and answer, each token once.
    const repeat = (id: number): void => {
      const value = out[id]!
      out[id] = value > 0 ? value / repetitionPenalty : value * repetitionPenalty
    }
    for (const id of history.prompt) repeat(id)
    for (const id of history.output.keys()) if (!history.prompt.has(id)) repeat(id)
  }
  // OpenAI's two penalties: over the answer alone.
  if (presencePenalty !== 0 || frequencyPenalty !== 0)
    for (const [id, count] of history.output) out[id]! -= presencePenalty + frequencyPenalty * count
  return out
}
