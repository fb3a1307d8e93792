import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Exporter } from '../exporter.ts'
import { rebuildSafetensors } from '../restore.ts'
import { ADAPTERHUB_FILES } from './format.ts'

export const ADAPTERHUB_EXPORTER: Exporter = {
  format: 'adapters',
  rebuild: async (adapter) => rebuildSafetensors(adapter, ADAPTERHUB_FILES),
  async export({ manifest }) {
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `an adapter of origin ${manifest.origin?.format ?? 'none'} cannot be exported to AdapterHub yet`,
    )
  },
}
