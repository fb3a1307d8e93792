import { safetensorsSource } from '@graft/sdk/format/safetensors-source.ts'
import type { Exporter } from '../exporter.ts'
import { rebuildSafetensors, restoreTensors } from '../restore.ts'
import { exportAdapterHub } from './export-adapterhub.ts'
import { ADAPTERHUB_FILES } from './files.ts'
import { HEAD_FILES } from './head.ts'

export const ADAPTERHUB_EXPORTER: Exporter = {
  format: 'adapters',
  async rebuild(adapter) {
    const files = rebuildSafetensors(adapter, ADAPTERHUB_FILES)
    const { origin } = adapter.manifest
    const head = restoreTensors(origin!, adapter.tensors, HEAD_FILES.weights)
    if (head.size > 0) files.set(HEAD_FILES.weights, safetensorsSource(head))
    return files
  },
  export: exportAdapterHub,
}
