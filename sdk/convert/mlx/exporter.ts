import type { Exporter } from '../exporter.ts'
import { rebuildSafetensors } from '../restore.ts'
import { exportMlx } from './export-mlx.ts'
import { MLX_FILES } from './files.ts'

export const MLX_EXPORTER: Exporter = {
  format: 'mlx',
  rebuild: async (adapter) => rebuildSafetensors(adapter, MLX_FILES),
  export: exportMlx,
}
