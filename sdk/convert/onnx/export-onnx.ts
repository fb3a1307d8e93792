import type { ByteSource } from '@graft/sdk/format/byte-source.ts'
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

/**
 * An `.onnx_adapter` for a graph whose adapters Olive extracted. The format has no scale: it goes into B.
 * @throws ERR_METHOD_UNSUPPORTED
 */
export async function exportOnnx({
  manifest,
  tensors,
}: OpenAdapter): Promise<Omit<Exported, 'files'> & { weights: ByteSource }> {
  const updates = lowRankOnly(manifest.operations, '.onnx_adapter')
  const rows = new Map<string, TensorSource>()
  const losses: Loss[] = []
  for (const op of updates) {
    const folded = await foldFactors(op, tensors)
    const a = await foldScale(op.site, folded.A, 1, KEPT)
    const b = await foldScale(op.site, folded.B, Number(op.scale), KEPT)
    rows.set(inputOf(op.site, 'A'), transposed(a.tensor))
    rows.set(inputOf(op.site, 'B'), transposed(b.tensor))
    losses.push(...folded.losses, ...a.losses, ...b.losses)
  }
  const scales = [...new Set(updates.map(({ scale }) => scale))].filter((scale) => scale !== '1')
  const notes =
    scales.length === 0
      ? []
      : [
          `.onnx_adapter has no scale: ${scales.join(', ')} folded into lora_B, and not told by the file`,
        ]
  return { weights: ortAdapter(rows, { adapter: 0, model: 0 }), losses, notes }
}
