import type { GraphContext } from './context.ts'
import type { GroupPart, LinearGroup } from './linear-groups.ts'
import { linear, linearPart } from './linear-weights.ts'
import { addLowRank } from './low-rank-pages.ts'
import { addOneLowRank } from './one-adapter.ts'
import { ONNX_TYPE } from './onnx-model.ts'
import { ownLinears, ownShift } from './own-tensors.ts'
import { PRECISIONS } from './precisions.ts'
import { timesVectors } from './row-vectors.ts'

/**
 * A group of linears with what adapters do to them: y = c * W(l * x) + B(A x) + b, where a row may bring a W and a b of
 * its own.
 * @param x [tokens, in]
 * @returns the name of y [tokens, out], the parts side by side
 */
export function linearGroup(context: GraphContext, group: LinearGroup, x: string): string {
  const { carries } = context
  let y = product(context, group, x)
  if (carries.vectors) y = timesVectors(context, group, 'out', `${group.key}.out_vectors`, y)
  if (carries.oneAdapter) y = addOneLowRank(context, group, x, y)
  else if (carries.lowRank) y = addLowRank(context, group, x, y)
  y = addBias(context, group, y)
  return carries.own ? ownShift(context, group, y) : y
}

function addBias({ m, checkpoint }: GraphContext, group: LinearGroup, y: string): string {
  if (!group.parts.some(({ bias }) => bias)) return y
  const whole = new Float32Array(group.out)
  for (const { path, out, first, bias } of group.parts)
    if (bias) whole.set(checkpoint.f32(`${path}.bias`, [out]), first)
  return m.node('Add', [y, m.constant(`${group.key}.bias`, ONNX_TYPE.FLOAT, [group.out], whole)])
}

/** W(l * x). Parts with an input vector of their own cannot share x: then each runs by itself. */
function product(context: GraphContext, group: LinearGroup, x: string): string {
  const { m, precision, checkpoint, carries } = context
  const { key, parts } = group
  const weights = function* () {
    for (const { path, out } of parts) yield checkpoint.f32(`${path}.weight`, [out, group.in])
  }
  const guarded = isGuarded(context, group)
  const of = { name: key, out: group.out, in: group.in, parts: weights, guarded }
  const form = PRECISIONS[precision].linears
  const scaled = ({ path }: GroupPart) =>
    timesVectors(context, group, 'in', `${path}.in_vectors`, x)
  const single = parts.length === 1
  const inputs = (single ? carries.vectors : carries.partInputs) ? parts.map(scaled) : null
  const y =
    inputs && !single
      ? m.node(
          'Concat',
          parts.map((part, i) => linearPart(m, form, of, part, inputs[i]!)),
          { axis: -1 },
        )
      : linear(m, form, of, inputs?.[0] ?? x)
  return carries.own ? ownLinears(context, group, inputs ?? parts.map(() => x), y) : y
}

/**
 * Whether a row that overflows might go on as numbers that look like an answer. What a norm gives is no such place: the
 * residual stream keeps its own NaN and infinities to the head, and the last block's values, which tell where nobody asks
 * for logits, are guarded. Attention may read a prefix, and what runs between up and down only adapters can blow up.
 */
function isGuarded({ carries, checkpoint }: GraphContext, { kind, key }: LinearGroup): boolean {
  if (kind === 'down') return carries.lowRank || carries.vectors || carries.own
  return kind === 'o' || key === `model.layers.${checkpoint.config.layers - 1}.qkv`
}
