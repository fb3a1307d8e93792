import { heldBytes } from '@graft/sdk/format/byte-source.ts'
import type { LowRank, Magnitude, Operation, Replace } from '@graft/sdk/format/operations.ts'
import { safetensorsSource } from '@graft/sdk/format/safetensors-source.ts'
import type { TensorSource } from '@graft/sdk/format/tensor-source.ts'
import type { ExportContext, Exported, Loss, OpenAdapter } from '../exporter.ts'
import { foldFactors } from '../fold-factors.ts'
import { commonScale, foldedFactor, padRank, scaleTensor } from '../rank-and-scale.ts'
import { transposed } from '../transpose.ts'
import { unfit } from '../way-out.ts'
import { MLX_FILES } from './files.ts'
import { checkPair, mlxPath, sitesOf, targetsOf } from './targets.ts'

type Update = LowRank | Magnitude

/** Updates only, all DoRA or none. @throws ERR_METHOD_UNSUPPORTED */
function asUpdates(operations: readonly Operation[]): Update[] {
  const dora = operations.some(({ op }) => op === 'magnitude')
  return operations.map((op) => {
    if (op.op !== 'low_rank' && op.op !== 'magnitude')
      return unfit(op, 'an MLX adapter holds LoRA, DoRA or whole layers, one of them')
    if (op.op === 'low_rank') {
      if (dora) unfit(op, 'fine_tune_type is one for the file, and other updates have magnitudes')
      if (op.slots.Bbias !== undefined) unfit(op, 'MLX has no bias of B (lora_bias)')
      if (op.kernel !== undefined) unfit(op, 'MLX adapts no convolutions')
      if (op.experts !== undefined && !op.site.includes('switch_mlp'))
        unfit(op, "stacked experts are adapted under mlx-lm's own name of them (switch_mlp) only")
    }
    return op
  })
}

/** A and B as mlx-lm holds them, of the file's rank and scale. */
async function factorsOf(
  op: Update,
  tensors: OpenAdapter['tensors'],
  file: { rank: number; scale: string },
): Promise<{ a: TensorSource; b: TensorSource; losses: Loss[] }> {
  const folded =
    op.op === 'low_rank'
      ? await foldFactors(op, tensors)
      : { A: tensors.get(op.slots.A)!, B: tensors.get(op.slots.B)!, losses: [] }
  const losses = [...folded.losses]
  const factor = foldedFactor(op.scale, file.scale)
  const [A, B] = [await scaleTensor(folded.A, 1), await scaleTensor(folded.B, factor)]
  if (A.error > 0)
    losses.push({ site: op.site, field: 'A', what: 'F64 rounded to f32', maxAbsError: A.error })
  if (B.error > 0)
    losses.push({
      site: op.site,
      field: factor === 1 ? 'B' : 'scale',
      what:
        factor === 1
          ? 'F64 rounded to f32'
          : `scale ${op.scale} folded into B beside the file's scale ${file.scale}, rounded to f32`,
      maxAbsError: B.error,
    })
  if (op.op === 'low_rank' && op.experts !== undefined)
    return {
      a: padRank(A.tensor, file.rank, 'rows'),
      b: padRank(B.tensor, file.rank, 'last'),
      losses,
    }
  return {
    a: padRank(transposed(A.tensor), file.rank, 'last'),
    b: padRank(transposed(B.tensor), file.rank, 'rows'),
    losses,
  }
}

/** As mlx-lm's save_config writes it. */
const configFile = (config: Record<string, unknown>) =>
  heldBytes(new TextEncoder().encode(JSON.stringify(config, null, 4)))

async function exportUpdates(
  { manifest, tensors }: OpenAdapter,
  context: ExportContext,
): Promise<Exported> {
  const updates = asUpdates(manifest.operations)
  const sites = sitesOf(manifest, context)
  const rank = Math.max(...updates.map((op) => op.rank))
  const scale = commonScale(updates.map((op) => op.scale))
  const out = new Map<string, TensorSource>()
  const losses: Loss[] = []
  const paths: string[] = []
  for (const op of updates) {
    checkPair(op, sites)
    const path = mlxPath(op, manifest.base.modelType)
    paths.push(path)
    const factors = await factorsOf(op, tensors, { rank, scale })
    losses.push(...factors.losses)
    out.set(`${path}.lora_a`, factors.a)
    out.set(`${path}.lora_b`, factors.b)
    if (op.op === 'magnitude') out.set(`${path}.m`, tensors.get(op.slots.m)!)
  }
  const { num_layers, keys } = targetsOf(paths, sites)
  const padded = updates.filter((op) => op.rank !== rank).length
  const config = configFile({
    fine_tune_type: updates[0]?.op === 'magnitude' ? 'dora' : 'lora',
    lora_parameters: { dropout: 0, keys, rank, scale: Number(scale) },
    model: manifest.base.name,
    num_layers,
  })
  return {
    files: new Map([
      [MLX_FILES.config, config],
      [MLX_FILES.weights, safetensorsSource(out)],
    ]),
    losses,
    notes:
      padded === 0
        ? []
        : [
            `${padded} of ${updates.length} updates padded with zeros to rank ${rank}, which the file has one of`,
          ],
  }
}

/** Whole tensors instead of the base's: fine_tune_type "full". */
function exportFull(
  { manifest, tensors }: OpenAdapter,
  context: ExportContext,
  operations: readonly Replace[],
): Exported {
  const sites = sitesOf(manifest, context)
  const out = new Map<string, TensorSource>()
  for (const op of operations) {
    if (manifest.base.modelType === 'gpt2') unfit(op, 'mlx-lm holds the linears of gpt2 transposed')
    checkPair(op, sites)
    out.set(`${mlxPath(op, manifest.base.modelType)}.${op.param}`, tensors.get(op.slots.value)!)
  }
  const config = configFile({ fine_tune_type: 'full', model: manifest.base.name, num_layers: -1 })
  return {
    files: new Map([
      [MLX_FILES.config, config],
      [MLX_FILES.weights, safetensorsSource(out)],
    ]),
    losses: [],
    notes: [],
  }
}

/**
 * An adapter as mlx-lm reads it. The file has one rank and one scale: smaller ranks are padded with zeros, other scales
 * folded into B, which is exact for powers of two and else in the losses.
 * @throws ERR_METHOD_UNSUPPORTED naming the operation that has no place
 */
export async function exportMlx(adapter: OpenAdapter, context: ExportContext): Promise<Exported> {
  const { operations } = adapter.manifest
  const whole = operations.filter((op): op is Replace => op.op === 'replace' && !op.rows)
  if (whole.length === operations.length) return exportFull(adapter, context, whole)
  return exportUpdates(adapter, context)
}
