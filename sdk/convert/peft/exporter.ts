import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Exporter } from '../exporter.ts'
import { rebuildSafetensors } from '../restore.ts'
import { PEFT_FILES } from './format.ts'

export const PEFT_EXPORTER: Exporter = {
  format: 'peft',
  rebuild: async (adapter) => rebuildSafetensors(adapter, PEFT_FILES),
  async export({ manifest }) {
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `an adapter of origin ${manifest.origin?.format ?? 'none'} cannot be exported to PEFT yet`,
    )
  },
}
