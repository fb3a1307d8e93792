import { createBaseSites } from '@graft/sdk/format/base-sites.ts'
import type { ByteSource } from '@graft/sdk/format/byte-source.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { joinSources } from '@graft/sdk/format/join-sources.ts'
import type { LowRank } from '@graft/sdk/format/operations.ts'
import type { TensorSource } from '@graft/sdk/format/tensor-source.ts'
import type { ExportContext, Exported, Loss, OpenAdapter } from '../exporter.ts'
import { foldFactors } from '../fold-factors.ts'
import { foldScale } from '../fold-scale.ts'
import { lowRankOnly } from '../low-rank-only.ts'
import { transposed } from '../transpose.ts'
import type { Architecture } from './architectures.ts'
import { chooseAlpha, factorOf, isExact, scaleOf } from './choose-alpha.ts'
import type { AdapterType } from './ggml-types.ts'
import { architectureOf, type Role, tensorOfSite } from './names.ts'
import { DEFAULT_ALIGNMENT, MAX_NAME_BYTES, padded } from './read-header.ts'
import { checkpointToFile, headsAt } from './row-order.ts'
import { ggufHeader, type WrittenValue } from './write-header.ts'

/** Safetensors dtypes that a file keeps as they are. */
const KEPT = ['F32', 'F16', 'BF16']

function nameOf(
  architecture: Architecture,
  { site }: LowRank,
  tied: string | null,
): { tensor: string; role: Role } {
  const found = tensorOfSite(architecture, site)
  if (found === null)
    throw new GraftError(
      'ERR_TENSOR_UNMATCHED',
      `llama.cpp has no tensor for ${site} of a ${architecture.name} base`,
    )
  // llama.cpp gives such a base no output.weight, and would refuse the whole file.
  if (site === tied)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `GGUF cannot hold an update of ${site}, whose weight the base shares with its embedding`,
    )
  const length = `${found.tensor}.lora_a`.length
  if (length >= MAX_NAME_BYTES)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      expected(`name ${found.tensor}.lora_a`, `below ${MAX_NAME_BYTES} bytes`, length),
    )
  return found
}

interface Row {
  name: string
  tensor: TensorSource
}

/** lora_a and lora_b of one update under the file's alpha. */
async function rowsOf(
  op: LowRank,
  { tensor: name, role }: { tensor: string; role: Role },
  heads: number | null,
  tensors: OpenAdapter['tensors'],
  alpha: number,
): Promise<{ rows: Row[]; losses: Loss[] }> {
  const folded = await foldFactors(op, tensors)
  const scaled = { scale: Number(op.scale), rank: op.rank }
  const a = await foldScale(op.site, folded.A, 1, KEPT)
  const factor = factorOf(scaled, alpha)
  const b = await foldScale(op.site, folded.B, factor, KEPT)
  const got = scaleOf(alpha, op.rank)
  const rounded: Loss = {
    site: op.site,
    field: 'scale',
    what: `alpha / rank in f32 is ${got}`,
    maxAbsError: Math.abs(got - scaled.scale),
  }
  return {
    rows: [
      { name: `${name}.lora_a`, tensor: role === 'embedding' ? transposed(a.tensor) : a.tensor },
      {
        name: `${name}.lora_b`,
        tensor: heads === null ? b.tensor : checkpointToFile(b.tensor, heads, `${name}.lora_b`),
      },
    ],
    losses: [
      ...folded.losses,
      ...a.losses,
      ...b.losses,
      ...(factor === 1 && !isExact(scaled, alpha) ? [rounded] : []),
    ],
  }
}

/** How many updates have another scale than the file's alpha gives them. */
function noteFolded(updates: readonly LowRank[], alpha: number): string[] {
  const folded = updates.filter(
    ({ scale, rank }) => factorOf({ scale: Number(scale), rank }, alpha) !== 1,
  )
  if (folded.length === 0) return []
  const [first] = folded
  return [
    `GGUF has one alpha a file, here ${alpha}: ${folded.length} of ${updates.length} updates have their scale folded into lora_b (${first!.site}: ${first!.scale} instead of ${scaleOf(alpha, first!.rank)})`,
  ]
}

/**
 * A GGUF that llama.cpp loads beside a GGUF of the same base. One alpha a file: where scale * rank differs between updates,
 * the difference is folded into lora_b, exactly for powers of two.
 * @throws ERR_METHOD_UNSUPPORTED, ERR_ARCHITECTURE_UNSUPPORTED, ERR_TENSOR_UNMATCHED, ERR_REQUEST_INVALID without the
 *   base's config.json where rows change their order
 */
export async function exportGguf(
  { manifest, tensors }: OpenAdapter,
  { base }: ExportContext,
): Promise<Omit<Exported, 'files'> & { weights: ByteSource }> {
  const updates = lowRankOnly(manifest.operations, 'GGUF')
  const { modelType } = manifest.base
  const architecture = architectureOf(modelType)
  const tied = base === undefined ? null : createBaseSites(base.tensors, modelType).tiedHead
  const alpha = chooseAlpha(updates.map(({ scale, rank }) => ({ scale: Number(scale), rank })))
  if (!Number.isFinite(alpha))
    throw new GraftError('ERR_ZERO_EFFECT', 'every update has scale 0, which GGUF cannot say')
  const rows: Row[] = []
  const losses: Loss[] = []
  for (const op of updates) {
    const name = nameOf(architecture, op, tied)
    const heads = architecture.turnsRows ? headsAt(name.tensor, base?.config) : null
    const made = await rowsOf(op, name, heads, tensors, alpha)
    rows.push(...made.rows)
    losses.push(...made.losses)
  }
  const metadata = new Map<string, WrittenValue>([
    ['general.architecture', { text: architecture.name }],
    ['general.type', { text: 'adapter' }],
    ['general.name', { text: manifest.name }],
    ['general.version', { text: manifest.version }],
    ['adapter.type', { text: 'lora' }],
    ['adapter.lora.alpha', { float32: alpha }],
  ])
  const header = ggufHeader(
    metadata,
    rows.map(({ name, tensor: { dtype, shape, data } }) => {
      return { name, type: dtype as AdapterType, shape, bytes: data.size }
    }),
  )
  const weights = joinSources([
    header,
    ...rows.flatMap(({ tensor: { data } }) => [
      data,
      new Uint8Array(padded(data.size, DEFAULT_ALIGNMENT) - data.size),
    ]),
  ])
  return { weights, losses, notes: noteFolded(updates, alpha) }
}
