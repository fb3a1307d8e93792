import type { ByteSource } from '@graft/sdk/format/byte-source.ts'
import { joinSources } from '@graft/sdk/format/join-sources.ts'
import type { TensorSource } from '@graft/sdk/format/tensor-source.ts'
import type { Exported, Loss, OpenAdapter } from '../exporter.ts'
import { foldFactors } from '../fold-factors.ts'
import { foldScale } from '../fold-scale.ts'
import { lowRankOnly } from '../low-rank-only.ts'
import { transposed } from '../transpose.ts'
import { inputOf } from './names.ts'
import { ortAdapter } from './write-adapter.ts'

/** What Olive's graphs take as inputs; others become F32. */
const KEPT = ['F32', 'F16']

/** More rows of zeros: they lie at the end. */
function withRows(tensor: TensorSource, rows: number): TensorSource {
  const [have = 0, width = 0] = tensor.shape
  if (rows === have) return tensor
  const zeros = new Uint8Array((rows - have) * (tensor.data.size / have))
  return { ...tensor, shape: [rows, width], data: joinSources([tensor.data, zeros]) }
}

/**
 * An `.onnx_adapter` for a graph whose adapters Olive extracted. The format has no scale: it goes into B.
 * Olive's graphs call every rank `lora_r` and run only where all are one, so smaller ones get factors of zero.
 * @throws ERR_METHOD_UNSUPPORTED
 */
export async function exportOnnx({
  manifest,
  tensors,
}: OpenAdapter): Promise<Omit<Exported, 'files'> & { weights: ByteSource }> {
  const updates = lowRankOnly(manifest.operations, '.onnx_adapter')
  const rank = Math.max(...updates.map((op) => op.rank))
  const rows = new Map<string, TensorSource>()
  const losses: Loss[] = []
  for (const op of updates) {
    const folded = await foldFactors(op, tensors)
    const a = await foldScale(op.site, folded.A, 1, KEPT)
    const b = await foldScale(op.site, folded.B, Number(op.scale), KEPT)
    rows.set(inputOf(op.site, 'A'), transposed(withRows(a.tensor, rank)))
    rows.set(inputOf(op.site, 'B'), withRows(transposed(b.tensor), rank))
    losses.push(...folded.losses, ...a.losses, ...b.losses)
  }
  const notes: string[] = []
  const scales = [...new Set(updates.map(({ scale }) => scale))].filter((scale) => scale !== '1')
  if (scales.length > 0)
    notes.push(
      `.onnx_adapter has no scale: ${scales.join(', ')} folded into lora_B, and not told by the file`,
    )
  const padded = updates.filter((op) => op.rank < rank)
  if (padded.length > 0)
    notes.push(
      `all ranks of an .onnx_adapter are one: ${padded.length} of ${updates.length} updates padded with zeros to rank ${rank}`,
    )
  return { weights: ortAdapter(rows, { adapter: 0, model: 0 }), losses, notes }
}
