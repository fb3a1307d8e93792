/** What the policy needs to know of one sequence. */
export interface PolicyRow {
  id: number
  tenant: string
  /** Tokens it could feed now: the rest of its prompt, or 1 when it decodes. */
  pending: number
  /** It has read its whole prompt: one token a step keeps its stream moving. */
  decoding: boolean
}

export interface PolicyInput {
  /** Sequences that hold a slot, oldest first. */
  running: readonly PolicyRow[]
  /** Sequences that wait for a slot, oldest first. */
  waiting: readonly PolicyRow[]
  freeSlots: number
  /** Most tokens of one step, over all rows. */
  tokenBudget: number
  /** Most prompt tokens of one row in one step: a long prompt must not stall the streams beside it. */
  chunkTokens: number
  /** Tokens each tenant has been served; see lift(). */
  served: ReadonlyMap<string, number>
}

/** Tokens to feed per sequence; a waiting sequence that is named takes a free slot first. */
export type StepPlan = { id: number; tokens: number }[]

/**
 * Least served tenant first (virtual token counter, arXiv 2401.00588), within a tenant the oldest first.
 * Counts what this very plan hands out, so that one step is fair too.
 */
function* byFairness(rows: readonly PolicyRow[], served: Map<string, number>) {
  const queues = new Map<string, PolicyRow[]>()
  for (const row of rows) {
    const queue = queues.get(row.tenant)
    if (queue) queue.push(row)
    else queues.set(row.tenant, [row])
  }
  while (queues.size > 0) {
    let least: string | undefined
    for (const tenant of queues.keys())
      if (least === undefined || (served.get(tenant) ?? 0) < (served.get(least) ?? 0))
        least = tenant
    const queue = queues.get(least!)!
    const row = queue.shift()!
    if (queue.length === 0) queues.delete(least!)
    yield row
  }
}

/**
 * One step: first a token for every stream, then prompt chunks of running sequences, then waiting ones.
 * Pure: the same input gives the same plan.
 */
export function planStep(input: PolicyInput): StepPlan {
  const served = new Map(input.served)
  const plan: StepPlan = []
  let budget = input.tokenBudget
  const give = (row: PolicyRow): void => {
    const tokens = Math.min(row.pending, row.decoding ? 1 : input.chunkTokens, budget)
    if (tokens <= 0) return
    budget -= tokens
    served.set(row.tenant, (served.get(row.tenant) ?? 0) + tokens)
    plan.push({ id: row.id, tokens })
  }
  for (const row of byFairness(
    input.running.filter((r) => r.decoding),
    served,
  ))
    give(row)
  for (const row of byFairness(
    input.running.filter((r) => !r.decoding),
    served,
  ))
    give(row)
  let slots = input.freeSlots
  for (const row of byFairness(input.waiting, served)) {
    if (slots-- <= 0 || budget <= 0) break
    give(row)
  }
  return plan
}

/**
 * A tenant that comes back starts level with the least served of the active ones: idling saves up no claim,
 * and a newcomer does not starve those who have been here.
 */
export function lift(
  served: Map<string, number>,
  tenant: string,
  active: ReadonlySet<string>,
): void {
  if (active.has(tenant)) return
  let floor = Number.POSITIVE_INFINITY
  for (const other of active) floor = Math.min(floor, served.get(other) ?? 0)
  if (Number.isFinite(floor)) served.set(tenant, Math.max(served.get(tenant) ?? 0, floor))
}
