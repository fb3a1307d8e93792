import type { ModelConfig } from '../../checkpoint/model-config.ts'
import { linearSites } from '../graph/sites.ts'

/** Whole tensors that an adapter brings instead of the base's. */
export interface OwnTensors {
  /** Weights of all norms, [norms, hidden] in the order they run, the base's where the adapter has none; null: none. */
  norms: Float32Array | null
  /** What is added to the outputs of all linears beyond the base's biases, [sum of out] in their order; null: nothing. */
  shifts: Float32Array | null
  /** Another matrix by module path, [in, out]. */
  linears: Map<string, Float32Array>
  /** Rows of the output head by token id: values [ids, hidden]. */
  headRows: { ids: number[]; values: Float32Array } | null
}

export const noOwnTensors = (): OwnTensors => ({
  norms: null,
  shifts: null,
  linears: new Map(),
  headRows: null,
})

/** Whether a graph must carry the machinery of own tensors for it. Rows of the head go another way. */
export const hasOwnTensors = ({ norms, shifts, linears }: OwnTensors): boolean =>
  norms !== null || shifts !== null || linears.size > 0

export function ownBytes({ norms, shifts, linears, headRows }: OwnTensors): number {
  let floats = (norms?.length ?? 0) + (shifts?.length ?? 0) + (headRows?.values.length ?? 0)
  for (const matrix of linears.values()) floats += matrix.length
  return 4 * floats
}

/** Where each linear's outputs begin in a vector over all of them, and how long that is. */
export function shiftColumns(config: ModelConfig): { first: Map<string, number>; width: number } {
  const first = new Map<string, number>()
  let width = 0
  for (const { path, out } of linearSites(config)) {
    first.set(path, width)
    width += out
  }
  return { first, width }
}
