import type { ModelConfig } from '../../checkpoint/model-config.ts'

/** What runs cost, in units of no matter: only ratios are used. */
export interface RunCost {
  /** A run, whatever it holds: weights are read, nodes start. */
  run: number
  /** A row's new position, without what it attends to. */
  token: number
  /** A row's new position, for each past position of its view. */
  past: number
}

/**
 * Nanoseconds on two cores with AVX-512, from node times of decode steps of the 135M shape with 4-bit weights (B 1 and 16,
 * capacities 128 and 1024). The machine was busy, so they are ratios and no more: a run costs what 180 past positions of
 * that shape's 16 rows cost.
 */
const NS = { weightOfRun: 0.03, weightOfToken: 0.01, pastValue: 0.12 }

export function runCost(config: ModelConfig): RunCost {
  const { hidden, intermediate, layers, heads, kvHeads, headDim, vocab } = config
  const attention = 2 * hidden * (heads + kvHeads) * headDim
  const weights = layers * (attention + 3 * hidden * intermediate) + vocab * hidden
  return {
    run: weights * NS.weightOfRun,
    token: weights * NS.weightOfToken,
    past: 2 * layers * kvHeads * headDim * NS.pastValue,
  }
}
