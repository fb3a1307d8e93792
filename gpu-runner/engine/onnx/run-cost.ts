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
 * Nanoseconds on two cores with AVX-512, from decode steps of the 135M shape with 4-bit weights (least squares over
 * B 1..16 and capacities 64..2048).
 */
const NS = { weightOfRun: 0.032, weightOfToken: 0.0045, pastValue: 0.04 }

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
