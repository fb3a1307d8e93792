import type { Activation, Bottleneck } from '@graft/sdk/format/operations.ts'
import type { TensorSource } from '@graft/sdk/format/tensor-source.ts'
import { unfit } from '../way-out.ts'
import { type ExportPart, type ExportWork, leftOut, placeOf } from './export-parts.ts'

const NON_LINEARITY: Record<Activation, string> = {
  relu: 'relu',
  gelu: 'gelu',
  gelu_new: 'gelu_new',
  silu: 'swish',
  tanh: 'tanh',
  sigmoid: 'sigmoid',
  leaky_relu: 'leakyrelu',
  linear: 'linear',
}

/** Settings that BnConfig has once for the adapter. */
const shared = (op: Bottleneck): string =>
  JSON.stringify([
    op.placement.startsWith('parallel'),
    op.activation,
    op.originalLnBefore,
    op.originalLnAfter,
    op.residual,
    op.adapterResidualBeforeLn,
    op.scaling,
    op.hidden,
    Object.keys(op.slots).toSorted(),
  ])

const placeIn = (op: Bottleneck): 'attention' | 'ffn' =>
  op.placement.endsWith('attention') ? 'attention' : 'ffn'

/** Keys of the library's module by slot. */
function keysOf(op: Bottleneck): Partial<Record<keyof Bottleneck['slots'], string>> {
  const down = op.slots.lnBeforeW === undefined ? 'adapter_down.0' : 'adapter_down.1'
  return {
    downW: `${down}.weight`,
    downB: `${down}.bias`,
    upW: 'adapter_up.weight',
    upB: 'adapter_up.bias',
    lnBeforeW: 'adapter_down.0.weight',
    lnBeforeB: 'adapter_down.0.bias',
    lnAfterW: 'adapter_norm_after.weight',
    lnAfterB: 'adapter_norm_after.bias',
    gateW: 'gate.weight',
    gateB: 'gate.bias',
    scaling: 'scaling',
  }
}

/** Bottlenecks: one configuration for all layers, but for the width. */
export function exportBottleneck(work: ExportWork, operations: readonly Bottleneck[]): ExportPart {
  const { family, blocks, name } = work
  const [first] = operations as [Bottleneck]
  if (family.bottleneck === null) unfit(first, 'AdapterHub has no bottlenecks in this family here')
  const tensors = new Map<string, TensorSource>()
  const widths = new Map<number, number>()
  const places = new Map<'attention' | 'ffn', Set<number>>()
  for (const op of operations) {
    if (shared(op) !== shared(first)) unfit(op, 'AdapterHub has one configuration for all layers')
    if (op.slots.downB === undefined || op.slots.upB === undefined)
      unfit(op, 'AdapterHub has biases on both projections')
    const { layer } = placeOf(work, op)
    const factor = op.hidden / op.reduced
    if (Math.floor(op.hidden / factor) !== op.reduced || (widths.get(layer) ?? factor) !== factor)
      unfit(op, `no reduction factor of the layer makes ${op.reduced} of ${op.hidden}`)
    widths.set(layer, factor)
    const place = placeIn(op)
    places.set(place, (places.get(place) ?? new Set<number>()).add(layer))
    const prefix = `${blocks[layer]}.${family.bottleneck?.[place]}.adapters.${name}`
    const keys = keysOf(op)
    for (const [slot, tensor] of Object.entries(op.slots))
      tensors.set(
        `${prefix}.${keys[slot as keyof Bottleneck['slots']]}`,
        work.tensors.get(tensor as string)!,
      )
  }
  for (const layers of places.values())
    if (layers.size !== widths.size)
      unfit(first, 'AdapterHub adapts the same places of every layer, and here they differ')
  const factors = [...new Set(widths.values())]
  const scaling = Number.isNaN(Number(first.scaling)) ? first.scaling : Number(first.scaling)
  return {
    config: {
      adapter_residual_before_ln: first.adapterResidualBeforeLn,
      cross_adapter: false,
      dropout: 0,
      init_weights: 'bert',
      init_weights_seed: null,
      inv_adapter: null,
      inv_adapter_reduction_factor: null,
      is_parallel: first.placement.startsWith('parallel'),
      leave_out: leftOut(work, new Set(widths.keys())),
      ln_after: first.slots.lnAfterW !== undefined,
      ln_before: first.slots.lnBeforeW !== undefined,
      mh_adapter: places.has('attention'),
      non_linearity: NON_LINEARITY[first.activation],
      original_ln_after: first.originalLnAfter,
      original_ln_before: first.originalLnBefore,
      output_adapter: places.has('ffn'),
      phm_layer: false,
      reduction_factor:
        factors.length === 1
          ? factors[0]
          : Object.fromEntries([...widths].map(([layer, factor]) => [`${layer}`, factor])),
      residual_before_ln:
        first.residual === 'post_add' ? 'post_add' : first.residual === 'before_ln',
      scaling,
      use_gating: first.slots.gateW !== undefined,
    },
    tensors,
    losses: [],
    notes: [],
  }
}
