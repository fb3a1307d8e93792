/** What the policy needs to know of a sequence that has a slot. */
export interface PolicyRow {
  id: number
  /** Tokens it could feed now: the rest of its prompt, 1 when it decodes, 0 while its next token is being picked. */
  pending: number
  /** It has read its whole prompt: one token a step keeps its stream moving. */
  decoding: boolean
}

export interface PolicyInput {
  /** In the order in which they got their slots. */
  running: readonly PolicyRow[]
  /** Most tokens of one step, over all rows; at least twice the rows. */
  tokenBudget: number
  /** Most prompt tokens of one row in one step: a long prompt must not stall the streams beside it. */
  chunkTokens: number
}

/** Tokens to feed per sequence. */
export type StepPlan = { id: number; tokens: number }[]

/**
 * One step: a token for every stream, then prompt chunks, first come first. Who came first was fair already, and as
 * streams take at most half the budget, a prompt is read in at most ceil(slots * longest prompt / (budget / 2)) steps.
 * Pure: the same input gives the same plan.
 */
export function planStep({ running, tokenBudget, chunkTokens }: PolicyInput): StepPlan {
  const plan: StepPlan = []
  let budget = tokenBudget
  const give = ({ id, pending }: PolicyRow, most: number): void => {
    const tokens = Math.min(pending, most, budget)
    if (tokens <= 0) return
    budget -= tokens
    plan.push({ id, tokens })
  }
  for (const row of running) if (row.decoding) give(row, 1)
  for (const row of running) if (!row.decoding) give(row, chunkTokens)
  return plan
}
