import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { writeChannels } from './linear-channels.ts'
import { writeBlocks, writeFloats, writeNf4, writeNf4Planes } from './linear-forms.ts'
import { guarded } from './linear-guard.ts'
import type { OnnxModel } from './onnx-model.ts'
import type { Form } from './precisions.ts'

export type { Precision } from './precisions.ts'
export { transpose } from './transpose.ts'

/** The weight of one linear without bias, or of several one below the other: [out, in]. */
export interface LinearWeight {
  name: string
  out: number
  in: number
  /**
   * The weights in order, a linear at a time or some rows of one; called only where the prepared weights do not hold
   * them yet.
   */
  parts: () => Iterable<Float32Array>
  /**
   * Whether a NaN among a row's inputs has to reach its outputs also where inputs are quantised; otherwise something else
   * still tells that the row overflowed.
   */
  guarded: boolean
}

/** Rows [first, first + out) of a weight. */
export interface WeightRows {
  first: number
  out: number
}

/** Adds y = x W^T with W held in the form. @param x [tokens, in] @returns the name of y [tokens, out] */
export function linear(model: OnnxModel, form: Form, of: LinearWeight, x: string): string {
  return linearPart(model, form, of, { first: 0, out: of.out }, x)
}

/** The same for some rows of W: they are the same bytes of the file. @returns the name of y [tokens, rows.out] */
export function linearPart(
  model: OnnxModel,
  form: Form,
  of: LinearWeight,
  rows: WeightRows,
  x: string,
): string {
  if (of.in % form.multiple !== 0)
    throw new GraftError(
      'ERR_ARCHITECTURE_UNSUPPORTED',
      expected(`${of.name}: input size for ${form.name}`, `a multiple of ${form.multiple}`, of.in),
    )
  switch (form.name) {
    case 'floats':
      return writeFloats(model, of, rows, x)
    case 'blocks':
      return writeBlocks(model, form, of, rows, guarded(model, of, x))
    case 'channels':
      return writeChannels(model, of, rows, x)
    case 'nf4':
      return writeNf4(model, of, rows, x)
    case 'nf4-planes':
      return writeNf4Planes(model, of, rows, guarded(model, of, x))
  }
}
