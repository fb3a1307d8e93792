import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Exporter } from '../exporter.ts'
import { restoreTensors } from '../restore.ts'
import { exportOnnx } from './export-onnx.ts'
import { fileOf } from './layout.ts'

/** Users name their files; Olive adds this ending. */
const FILE = 'adapter.onnx_adapter'

export const ONNX_EXPORTER: Exporter = {
  format: 'onnx',
  async rebuild({ manifest: { origin }, tensors }) {
    if (origin === null)
      throw new GraftError('ERR_MANIFEST_INVALID', 'the adapter keeps no origin to rebuild')
    return new Map([[FILE, fileOf(origin, restoreTensors(origin, tensors))]])
  },
  async export(adapter) {
    const { weights, losses, notes } = await exportOnnx(adapter)
    return { files: new Map([[FILE, weights]]), losses, notes }
  },
}
