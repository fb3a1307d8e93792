import type { Prefix } from '@graft/sdk/format/operations.ts'
import { blockTransform } from '../blocks.ts'
import { restoreTensors } from '../restore.ts'
import { unfit } from '../way-out.ts'
import { type ExportPart, type ExportWork, leftOut, placeOf } from './export-parts.ts'

/** A flat prefix, and the copy of it per block that the library's own files have. */
export function exportPrefix(work: ExportWork, prefixes: readonly Prefix[]): ExportPart {
  const { name, family, blocks } = work
  const [first] = prefixes as [Prefix]
  const { virtualTokens, kvHeads, headDim } = first
  if (!family.prefix) unfit(first, 'AdapterHub has no prefixes in this family of models')
  const sorted = prefixes.toSorted((a, b) => placeOf(work, a).layer - placeOf(work, b).layer)
  for (const op of sorted) {
    if (op.virtualTokens !== virtualTokens || op.kvHeads !== kvHeads || op.headDim !== headDim)
      unfit(op, 'layers differ in tokens or heads, which AdapterHub cannot say')
    if ((op.firstPosition ?? virtualTokens) !== 0)
      unfit(
        op,
        `the first real token has position ${op.firstPosition ?? virtualTokens}, in AdapterHub it is 0: rotary bases would compute something else`,
      )
  }
  const view = [virtualTokens, sorted.length * 2, kvHeads, headDim]
  const total = view.reduce((n, dim) => n * dim, 1)
  const tail = `prefix_tunings.${name}.self_prefix.control_trans`
  const inner = blocks[0]!.slice(0, -`${family.blocks}.0`.length)
  const key = `${inner}prefix_tuning.${tail}`
  const keyMap = sorted
    .flatMap(({ slots }) => [slots.k, slots.v])
    .map((tensor, i) => {
      const block = {
        view,
        begin: [0, i, 0, 0],
        end: [virtualTokens, i + 1, kvHeads, headDim],
        axes: [1, 2, 0, 3],
      }
      return { key, tensor, transform: blockTransform(block, [total]) }
    })
  const tensors = restoreTensors({ keyMap }, work.tensors)
  const layers = new Set(sorted.map((op) => placeOf(work, op).layer))
  for (const layer of layers)
    tensors.set(
      `${blocks[layer]}.${family.attention}.prefix_tuning.pool.${tail}`,
      tensors.get(key)!,
    )
  return {
    config: {
      architecture: 'prefix_tuning',
      bottleneck_size: 512,
      cross_prefix: true,
      dropout: 0,
      encoder_prefix: true,
      flat: true,
      init_weights_seed: null,
      leave_out: leftOut(work, layers),
      non_linearity: 'tanh',
      prefix_length: virtualTokens,
      shared_gating: true,
      use_gating: false,
    },
    tensors,
    losses: [],
    notes: [],
  }
}
