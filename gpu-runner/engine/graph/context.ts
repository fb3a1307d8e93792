import type { Checkpoint } from '../../checkpoint/read-checkpoint.ts'
import type { KvPrecision } from '../bank/kv-format.ts'
import type { Execution } from './execution.ts'
import { type LinearGroup, linearGroups } from './linear-groups.ts'
import type { Precision } from './linear-weights.ts'
import { ONNX_TYPE, type OnnxModel } from './onnx-model.ts'
import type { Traits } from './traits.ts'
import { type Carries, VARIANTS, type Variant } from './variants.ts'

/** Which of its forms a graph is written in. */
export interface GraphForm {
  precision: Precision
  execution: Execution
  variant: Variant
  /** Of past keys and values, where the host holds them. */
  kvPrecision: KvPrecision
  traits: Traits
}

/** What every part of a graph is written with. */
export interface GraphContext extends GraphForm {
  m: OnnxModel
  checkpoint: Checkpoint
  /** Which adapter machinery the graph carries. */
  carries: Carries
  /** Of every layer, in the order they run. */
  groups: LinearGroup[]
  /** Name of the f32 scalar 0, for masks. */
  zero: string
}

export function graphContext(m: OnnxModel, checkpoint: Checkpoint, form: GraphForm): GraphContext {
  return {
    ...form,
    m,
    checkpoint,
    carries: VARIANTS[form.variant],
    groups: linearGroups(checkpoint.config),
    zero: m.constant('zero', ONNX_TYPE.FLOAT, [], new Float32Array([0])),
  }
}

/** The group of a block, e.g. `model.layers.0.qkv`. */
export function groupOf({ groups }: GraphContext, key: string): LinearGroup {
  const group = groups.find((candidate) => candidate.key === key)
  if (group) return group
  throw new TypeError(`no linears ${key}`)
}
