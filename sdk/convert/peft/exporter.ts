import type { Exporter } from '../exporter.ts'
import { rebuildSafetensors } from '../restore.ts'
import { exportPeft } from './export-peft.ts'
import { PEFT_FILES } from './format.ts'

export const PEFT_EXPORTER: Exporter = {
  format: 'peft',
  rebuild: async (adapter) => rebuildSafetensors(adapter, PEFT_FILES),
  export: (adapter, context) => exportPeft(adapter, context, PEFT_FILES),
}
