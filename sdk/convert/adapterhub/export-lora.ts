import { DTYPES, isDtype } from '@graft/sdk/format/dtypes.ts'
import type { LowRank, Magnitude, Operation, Scale } from '@graft/sdk/format/operations.ts'
import { derivedTensor, reshaped, type TensorSource } from '@graft/sdk/format/tensor-source.ts'
import type { Loss } from '../exporter.ts'
import { foldFactors } from '../fold-factors.ts'
import { commonScale, foldedFactor, padRank, scaleTensor } from '../rank-and-scale.ts'
import { unfit } from '../way-out.ts'
import { type ExportPart, type ExportWork, leftOut, placeOf } from './export-parts.ts'

type Update = LowRank | Magnitude

const LORA = {
  architecture: 'lora',
  composition_mode: 'add',
  dropout: 0,
  dtype: null,
  init_weights: 'lora',
  init_weights_seed: null,
  use_dora: false,
  use_gating: false,
  vera_b: null,
  vera_d: null,
}

/** The config names modules for all layers at once: those that it names and that have no operation are filled. */
interface Grid<T> {
  flags: {
    selfattn_lora: boolean
    attn_matrices: string[]
    intermediate_lora: boolean
    output_lora: boolean
    leave_out: number[]
  }
  places: { layer: number; path: string; op: T | null }[]
}

function gridOf<T extends Operation>(work: ExportWork, operations: readonly T[]): Grid<T> {
  const { projections, intermediate, output } = work.family
  const paths = new Map<string, Map<number, T>>()
  for (const op of operations) {
    const { layer, path } = placeOf(work, op)
    paths.set(path, (paths.get(path) ?? new Map<number, T>()).set(layer, op))
  }
  const first = operations[0]!
  if ('qkv' in projections && paths.has(projections.qkv))
    unfit(first, 'AdapterHub adapts q, k and v of a fused layer each by itself')
  const letters =
    'qkv' in projections
      ? []
      : (['q', 'k', 'v'] as const).filter((letter) => paths.has(projections[letter]))
  const known = new Set<string | null>([intermediate, output])
  if (!('qkv' in projections)) for (const path of Object.values(projections)) known.add(path)
  for (const [path, byLayer] of paths)
    if (!known.has(path))
      unfit([...byLayer.values()][0]!, `AdapterHub has no LoRA at ${path} of this family of models`)
  const layers = new Set([...paths.values()].flatMap((byLayer) => [...byLayer.keys()]))
  return {
    flags: {
      selfattn_lora: letters.length > 0,
      attn_matrices: [...letters],
      intermediate_lora: intermediate !== null && paths.has(intermediate),
      output_lora: output !== null && paths.has(output),
      leave_out: leftOut(work, layers),
    },
    places: [...layers]
      .toSorted((a, b) => a - b)
      .flatMap((layer) =>
        [...paths].map(([path, byLayer]) => ({ layer, path, op: byLayer.get(layer) ?? null })),
      ),
  }
}

/** A tensor of one repeated value. */
function filled(dtype: string, shape: number[], value: readonly number[]): TensorSource {
  const bits = isDtype(dtype) ? DTYPES[dtype].bits : 0
  const bytes = shape.reduce((n, dim) => n * dim, bits / 8)
  return derivedTensor(dtype, shape, bytes, () =>
    new Uint8Array(bytes).map((_, i) => value[i % value.length]!),
  )
}

function checkUpdate({ sites }: ExportWork, op: Update, dora: boolean): void {
  if (op.op === 'magnitude') {
    if (sites.shape(`${op.site}.bias`) !== null)
      unfit(op, "AdapterHub's DoRA multiplies the layer's bias too, and this layer has one")
    return
  }
  if (dora) unfit(op, 'use_dora is one for the adapter, and other updates have magnitudes')
  if (op.slots.Bbias !== undefined) unfit(op, 'AdapterHub has no bias of B (lora_bias)')
  if (op.experts !== undefined || op.kernel !== undefined)
    unfit(op, 'AdapterHub adapts linear layers only')
}

/** LoRA or DoRA: one rank and one alpha for the adapter. */
export async function exportLora(
  work: ExportWork,
  updates: readonly Update[],
): Promise<ExportPart> {
  const dora = updates.some(({ op }) => op === 'magnitude')
  for (const op of updates) checkUpdate(work, op, dora)
  const { flags, places } = gridOf(work, updates)
  const rank = Math.max(...updates.map((op) => op.rank))
  // The library's DoRA is one for alpha = r only.
  const scale = dora ? '1' : commonScale(updates.map((op) => op.scale))
  const alpha = Number(scale) * rank
  const losses: Loss[] = []
  if (alpha / rank !== Number(scale))
    losses.push({
      site: updates[0]!.site,
      field: 'scale',
      what: `scale ${scale} as alpha ${alpha} over ${rank}`,
      maxAbsError: Math.abs(alpha / rank - Number(scale)),
    })
  const tensors = new Map<string, TensorSource>()
  for (const { layer, path, op } of places) {
    const key = `${work.blocks[layer]}.${path}.loras.${work.name}`
    const linear = work.sites.linear(`${work.blocks[layer]}.${path}`)
    if (op === null) {
      if (dora)
        unfit(
          updates[0]!,
          `AdapterHub would have DoRA at ${path} of layer ${layer} too, where there is none`,
        )
      tensors.set(`${key}.lora_A`, filled('F32', [rank, linear!.in], [0]))
      tensors.set(`${key}.lora_B`, filled('F32', [linear!.out, rank], [0]))
      continue
    }
    const factors =
      op.op === 'low_rank'
        ? await foldFactors(op, work.tensors)
        : { A: work.tensors.get(op.slots.A)!, B: work.tensors.get(op.slots.B)!, losses: [] }
    const B = await scaleTensor(factors.B, foldedFactor(op.scale, scale))
    losses.push(...factors.losses)
    if (B.error > 0)
      losses.push({
        site: op.site,
        field: 'scale',
        what: `scale ${op.scale} folded into B beside the adapter's ${scale}, rounded to f32`,
        maxAbsError: B.error,
      })
    tensors.set(`${key}.lora_A`, padRank(factors.A, rank, 'rows'))
    tensors.set(`${key}.lora_B`, padRank(B.tensor, rank, 'last'))
    if (op.op === 'magnitude')
      tensors.set(`${key}.m.weight`, reshaped(work.tensors.get(op.slots.m)!, [op.out, 1]))
  }
  const padded = updates.filter((op) => op.rank !== rank).length
  const empty = places.filter(({ op }) => op === null).length
  return {
    config: { ...LORA, ...flags, alpha, r: rank, use_dora: dora },
    tensors,
    losses,
    notes: [
      ...(padded
        ? [`${padded} of ${updates.length} updates padded with zeros to rank ${rank}`]
        : []),
      ...(empty
        ? [`${empty} modules that the config names for every layer filled with zeros`]
        : []),
    ],
  }
}

const ONE_F32 = [0, 0, 0x80, 0x3f]

/** IA3: factors of outputs. */
export function exportIa3(work: ExportWork, scales: readonly Scale[]): ExportPart {
  const input = scales.find(({ side }) => side === 'input')
  if (input) unfit(input, "AdapterHub's IA3 multiplies outputs only")
  const { flags, places } = gridOf(work, scales)
  const tensors = new Map<string, TensorSource>()
  for (const { layer, path, op } of places) {
    const out = work.sites.linear(`${work.blocks[layer]}.${path}`)!.out
    const factors = op === null ? filled('F32', [out], ONE_F32) : work.tensors.get(op.slots.l)!
    tensors.set(
      `${work.blocks[layer]}.${path}.loras.${work.name}.lora_B`,
      reshaped(factors, [out, 1]),
    )
  }
  const empty = places.filter(({ op }) => op === null).length
  return {
    config: {
      ...LORA,
      ...flags,
      alpha: 1,
      r: 1,
      composition_mode: 'scale',
      init_weights: 'ia3',
    },
    tensors,
    losses: [],
    notes: empty ? [`${empty} modules that the config names for every layer filled with ones`] : [],
  }
}
