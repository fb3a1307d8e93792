import { heldBytes } from '@graft/sdk/format/byte-source.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { LowRank, Magnitude, Operation } from '@graft/sdk/format/operations.ts'
import { safetensorsSource } from '@graft/sdk/format/safetensors-source.ts'
import { reshaped, type TensorSource } from '@graft/sdk/format/tensor-source.ts'
import type { ExportContext, Exported, Loss, OpenAdapter } from '../exporter.ts'
import { foldFactors } from '../fold-factors.ts'
import { unfit } from '../way-out.ts'
import { kohyaNames } from './export-names.ts'

type Update = LowRank | Magnitude

/** @throws ERR_METHOD_UNSUPPORTED naming what Kohya's format has no key for */
function asUpdate(op: Operation): Update {
  const refuse = (what: string): never =>
    unfit(op, `Kohya's format holds LoRA and DoRA only, and has no key for ${what}`)
  if (op.op !== 'low_rank' && op.op !== 'magnitude') return refuse(op.op)
  if (op.op === 'low_rank' && op.experts !== undefined) return refuse('stacked experts')
  if (op.op === 'low_rank' && op.slots.Bbias !== undefined) return refuse('a bias of B (lora_bias)')
  return op
}

/**
 * The alpha that gives the scale back. Readers keep it as f32 and divide by the rank, in f32 (sd-scripts) or f64
 * (diffusers).
 */
function alphaOf({ site, scale, rank }: Update): { alpha: number; loss: Loss | null } {
  const wanted = Number(scale) * rank
  const alpha = Math.fround(wanted)
  if (alpha === 0 || !Number.isFinite(alpha))
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `${site}: scale ${scale} needs an alpha of ${wanted}, and Kohya's tools read 0 as "the rank" and keep f32; rescale the adapter first`,
    )
  const error = Math.abs(alpha / rank - Number(scale))
  if (error === 0) return { alpha, loss: null }
  const what = `alpha ${wanted} is kept as f32 ${alpha}`
  return { alpha, loss: { site, field: 'scale', what, maxAbsError: error } }
}

const scalar = (value: number): TensorSource => ({
  dtype: 'F32',
  shape: [],
  data: heldBytes(new Uint8Array(Float32Array.of(value).buffer)),
})

const only = <T>(values: readonly T[]): T | null => (new Set(values).size === 1 ? values[0]! : null)

/** LoRA and DoRA as a file of sd-scripts' naming: an alpha per module, so that every scale has its own. */
export async function exportKohya(
  { manifest, tensors }: OpenAdapter,
  _context: ExportContext,
  fileName: string,
): Promise<Exported> {
  const updates = manifest.operations.map(asUpdate)
  const names = kohyaNames(updates.map(({ site }) => site))
  const out = new Map<string, TensorSource>()
  const losses: Loss[] = []
  const alphas: number[] = []
  for (const op of updates) {
    const name = names.get(op.site)!
    const { alpha, loss } = alphaOf(op)
    alphas.push(alpha)
    if (loss) losses.push(loss)
    const factors =
      op.op === 'low_rank'
        ? await foldFactors(op, tensors)
        : { A: tensors.get(op.slots.A)!, B: tensors.get(op.slots.B)!, losses: [] }
    losses.push(...factors.losses)
    out.set(`${name}.lora_down.weight`, factors.A)
    out.set(`${name}.lora_up.weight`, factors.B)
    out.set(`${name}.alpha`, scalar(alpha))
    if (op.op === 'magnitude')
      out.set(`${name}.dora_scale`, reshaped(tensors.get(op.slots.m)!, [op.out, 1]))
  }
  const [dim, alpha] = [only(updates.map(({ rank }) => rank)), only(alphas)]
  const metadata = {
    ss_network_module: 'networks.lora',
    ss_network_dim: dim === null ? 'Dynamic' : `${dim}`,
    ss_network_alpha: alpha === null ? 'Dynamic' : `${alpha}`,
  }
  const notes: string[] = []
  if (updates.some(({ op }) => op === 'magnitude'))
    notes.push(
      'dora_scale is read by LyCORIS and ComfyUI; diffusers and networks.lora of sd-scripts leave it out',
    )
  if (alpha === null && updates.some(({ site }) => /attn\d\.to_/.test(site)))
    notes.push(
      'modules have different alphas: diffusers (seen in 0.39) gives attention projections the most common one; sd-scripts, LyCORIS and ComfyUI read each',
    )
  return { files: new Map([[fileName, safetensorsSource(out, metadata)]]), losses, notes }
}
