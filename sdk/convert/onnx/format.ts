import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Detected, OpenedFiles, SourceFormat } from '../source-format.ts'
import { importOnnx } from './import-onnx.ts'
import { ORT_IDENTIFIER } from './read-adapter.ts'

/** A FlatBuffer with ONNX Runtime's identifier, whatever the file is called. */
async function detect({ heads }: OpenedFiles): Promise<Detected | null> {
  const found = [...heads].filter(([, head]) =>
    ORT_IDENTIFIER.every((byte, i) => head[4 + i] === byte),
  )
  if (found.length > 1)
    throw new GraftError(
      'ERR_SOURCE_UNKNOWN',
      `${found.length} ONNX Runtime adapters found (${found.map(([path]) => path).join(', ')}); give one of them`,
    )
  const [first] = found
  return first === undefined ? null : { configPath: null, config: {}, weightsPath: first[0] }
}

export const ONNX: SourceFormat = {
  format: 'onnx',
  tool: 'ONNX Runtime (.onnx_adapter)',
  detect,
  import: importOnnx,
}
