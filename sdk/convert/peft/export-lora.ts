import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { heldBytes } from '@graft/sdk/format/byte-source.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { LowRank, Magnitude } from '@graft/sdk/format/operations.ts'
import type { TensorSource } from '@graft/sdk/format/tensor-source.ts'
import type { Loss } from '../exporter.ts'
import { foldFactors } from '../fold-factors.ts'
import type { MethodContext, MethodExport } from './export-method.ts'
import { targetNames } from './export-paths.ts'
import { scaleFields } from './export-scales.ts'

type Update = LowRank | Magnitude

const refuse = (op: Update, what: string, way: string): never => {
  throw new GraftError('ERR_METHOD_UNSUPPORTED', `${op.op} at ${op.site}: ${what}; ${way}`)
}

function isEmbedding(site: string, sites: BaseSites | null): boolean {
  if (sites !== null) return sites.embedding(site) !== null
  return /(?:^|\.)(?:embed_tokens|wte)$/.test(site)
}

/** Zeros in f32: a bias that PEFT wants of every module once one has it. */
const zeros = (out: number): TensorSource => ({
  dtype: 'F32',
  shape: [out],
  data: heldBytes(new Uint8Array(4 * out)),
})

/**
 * LoRA, rsLoRA and DoRA with a rank and a scale per module; AdaLoRA's and VeRA's factors are folded.
 * @throws ERR_METHOD_UNSUPPORTED
 */
export async function exportLora(
  updates: readonly Update[],
  { tensors, pathOf, sites }: MethodContext,
): Promise<MethodExport> {
  const dora = updates.some(({ op }) => op === 'magnitude')
  const biased = updates.some((op) => op.op === 'low_rank' && op.slots.Bbias !== undefined)
  const out = new Map<string, TensorSource>()
  const losses: Loss[] = []
  const notes: string[] = []
  for (const op of updates) {
    if (op.op === 'low_rank' && op.experts !== undefined)
      refuse(
        op,
        'stacked experts',
        "PEFT's target_parameters are written back only for adapters that came from PEFT",
      )
    if (dora !== (op.op === 'magnitude'))
      refuse(
        op,
        'some modules are DoRA and some are not',
        'PEFT has one use_dora for all: split the adapter',
      )
    const module = `base_model.model.${pathOf(op.site)}`
    const factors =
      op.op === 'low_rank'
        ? await foldFactors(op, tensors)
        : { A: tensors.get(op.slots.A)!, B: tensors.get(op.slots.B)!, losses: [] }
    losses.push(...factors.losses)
    if (isEmbedding(op.site, sites)) {
      if (dora || biased) refuse(op, 'DoRA or lora_bias on an embedding', 'merge the adapter')
      out.set(`${module}.lora_embedding_A`, factors.A)
      out.set(`${module}.lora_embedding_B`, factors.B)
      continue
    }
    out.set(`${module}.lora_A.weight`, factors.A)
    out.set(`${module}.lora_B.weight`, factors.B)
    if (op.op === 'magnitude') out.set(`${module}.lora_magnitude_vector`, tensors.get(op.slots.m)!)
    else if (biased) {
      const bias = op.slots.Bbias
      out.set(`${module}.lora_B.bias`, bias === undefined ? zeros(op.out) : tensors.get(bias)!)
    }
  }
  if (biased && updates.some((op) => op.op === 'low_rank' && op.slots.Bbias === undefined))
    notes.push('lora_bias is one switch for all modules: those without a bias were given zeros')
  const scales = scaleFields(
    updates.map(({ site, rank, scale }) => {
      return { site, rank, scale: Number(scale), path: pathOf(site) }
    }),
  )
  const candidates = (sites?.modules ?? []).filter(
    (path) => (sites?.shape(`${path}.weight`)?.length ?? 0) >= 2,
  )
  const conv1d = sites !== null && isConv1d(sites, updates)
  return {
    type: 'LORA',
    tensors: out,
    fields: {
      ...scales.fields,
      target_modules: targetNames(
        updates.map(({ site }) => pathOf(site)),
        candidates.map(pathOf),
      ),
      bias: 'none',
      fan_in_fan_out: conv1d,
      init_lora_weights: true,
      lora_dropout: 0,
      use_dora: dora,
      ...(biased ? { lora_bias: true } : {}),
    },
    losses: [...losses, ...scales.losses],
    notes: [...notes, ...scales.notes],
  }
}

/** Bases that hold the transpose of what torch's Linear holds. PEFT corrects the switch by itself, and warns. */
function isConv1d(sites: BaseSites, updates: readonly Update[]): boolean {
  return updates.some(({ site, out }) => {
    const shape = sites.shape(`${site}.weight`)
    const linear = sites.linear(site)
    return (
      linear !== null &&
      shape !== null &&
      linear.in === shape[0] &&
      linear.out === out &&
      shape[0] !== shape[1]
    )
  })
}
