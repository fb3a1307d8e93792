import type { Checkpoint } from '../../checkpoint/read-checkpoint.ts'
import { buildDecoder } from '../graph/decoder.ts'
import type { Execution } from '../graph/execution.ts'
import type { Precision } from '../graph/linear-weights.ts'
import { NO_TRAITS } from '../graph/traits.ts'
import type { WeightFile } from '../graph/weight-file.ts'

/** Puts all weights of a base into the file: every form of the graph reads those of the smallest one. */
export function prepareWeights(
  checkpoint: Checkpoint,
  weights: WeightFile,
  precision: Precision,
  execution: Execution,
): void {
  buildDecoder(checkpoint, weights, {
    precision,
    execution,
    variant: 'base',
    kvPrecision: 'fp32',
    traits: NO_TRAITS,
  })
}
