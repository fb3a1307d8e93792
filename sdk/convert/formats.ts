import type { Origin } from '@graft/sdk/format/manifest.ts'
import { ADAPTERHUB_EXPORTER } from './adapterhub/exporter.ts'
import { ADAPTERHUB } from './adapterhub/format.ts'
import type { Exporter } from './exporter.ts'
import { GGUF_EXPORTER } from './gguf/exporter.ts'
import { GGUF } from './gguf/format.ts'
import { KOHYA_EXPORTER } from './kohya/exporter.ts'
import { KOHYA } from './kohya/format.ts'
import { MLX_EXPORTER } from './mlx/exporter.ts'
import { MLX } from './mlx/format.ts'
import { ONNX_EXPORTER } from './onnx/exporter.ts'
import { ONNX } from './onnx/format.ts'
import { PEFT_EXPORTER } from './peft/exporter.ts'
import { PEFT } from './peft/format.ts'
import type { SourceFormat } from './source-format.ts'

/** Every tool whose files are read. */
export const FORMATS: readonly SourceFormat[] = [PEFT, ADAPTERHUB, KOHYA, GGUF, ONNX, MLX]

/** Every tool whose files are written. */
export const EXPORTERS: Partial<Record<Origin['format'], Exporter>> = {
  peft: PEFT_EXPORTER,
  adapters: ADAPTERHUB_EXPORTER,
  gguf: GGUF_EXPORTER,
  kohya: KOHYA_EXPORTER,
  mlx: MLX_EXPORTER,
  onnx: ONNX_EXPORTER,
}
