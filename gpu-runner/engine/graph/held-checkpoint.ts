import { type Checkpoint, withF32 } from '../../checkpoint/read-checkpoint.ts'
import { PRECISIONS, type Precision } from './precisions.ts'
import { floatsOf, nf4Of } from './quantise/nf4-weights.ts'
import { linearSites } from './sites.ts'

/**
 * The base as adapters trained on it know it: on NF4 what is computed from weights, such as the row norms of DoRA, is
 * computed from what their codes stand for, as PEFT does. At other precisions it is the checkpoint itself.
 */
export function heldCheckpoint(checkpoint: Checkpoint, precision: Precision): Checkpoint {
  const { name } = PRECISIONS[precision].linears
  if (name !== 'nf4' && name !== 'nf4-planes') return checkpoint
  const linears = new Set(linearSites(checkpoint.config).map(({ path }) => `${path}.weight`))
  return withF32(checkpoint, (tensor, shape) => {
    const w = checkpoint.f32(tensor, shape)
    return linears.has(tensor) ? floatsOf(nf4Of(w)) : w
  })
}
