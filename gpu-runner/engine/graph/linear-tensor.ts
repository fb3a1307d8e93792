import type { LinearWeight, WeightRows } from './linear-weights.ts'
import { ONNX_TYPE, type OnnxModel, type OnnxType } from './onnx-model.ts'
import type { MakeWeight } from './weight-file.ts'

/** A weight of a linear in the file, its outputs outermost; rows of it are a range of the whole. */
export function rowsOf(
  m: OnnxModel,
  of: LinearWeight,
  rows: WeightRows,
  kind: string,
  type: OnnxType,
  dims: number[],
  make: MakeWeight,
): string {
  const name = `${of.name}.${kind}`
  if (isWhole(of, rows)) return m.weight(name, type, dims, make)
  const bytes = dims.reduce((a, b) => a * b, type === ONNX_TYPE.FLOAT ? 4 : 1)
  const skip = (bytes / rows.out) * rows.first
  return m.weight(`${name}.rows_${rows.first}`, type, dims, make, { of: name, skip })
}

export const isWhole = (of: LinearWeight, rows: WeightRows): boolean =>
  rows.first === 0 && rows.out === of.out

/** Both tensors of a quantised weight come from one pass over its floats. */
export function once<T>(make: () => T): () => T {
  let made: T | undefined
  return () => (made ??= make())
}
