import type { Checkpoint } from '../../checkpoint/read-checkpoint.ts'
import type { Execution } from './execution.ts'
import type { Precision } from './linear-weights.ts'
import { ONNX_TYPE, type OnnxModel } from './onnx-model.ts'
import { linearSites } from './sites.ts'
import { VARIANTS, type Variant } from './variants.ts'

/** What every part of a graph is written with. */
export interface GraphContext {
  m: OnnxModel
  checkpoint: Checkpoint
  precision: Precision
  execution: Execution
  /** Which adapter machinery the graph carries. */
  carries: (typeof VARIANTS)[Variant]
  /** Sizes of a linear by its module path. */
  sizes: ReadonlyMap<string, { in: number; out: number }>
  /** Name of the f32 scalar 0, for masks. */
  zero: string
}

export function graphContext(
  m: OnnxModel,
  checkpoint: Checkpoint,
  precision: Precision,
  variant: Variant,
  execution: Execution,
): GraphContext {
  return {
    m,
    checkpoint,
    precision,
    execution,
    carries: VARIANTS[variant],
    sizes: new Map(linearSites(checkpoint.config).map((site) => [site.path, site])),
    zero: m.constant('zero', ONNX_TYPE.FLOAT, [], new Float32Array([0])),
  }
}
