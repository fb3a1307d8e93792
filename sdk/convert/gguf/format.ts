import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Detected, OpenedFiles, SourceFormat } from '../source-format.ts'
import { importGguf } from './import-gguf.ts'
import { GGUF_MAGIC } from './read-header.ts'

/** A file that begins as GGUF, whatever it is called. */
async function detect({ heads }: OpenedFiles): Promise<Detected | null> {
  const found = [...heads].filter(([, head]) => GGUF_MAGIC.every((byte, i) => head[i] === byte))
  if (found.length > 1)
    throw new GraftError(
      'ERR_SOURCE_UNKNOWN',
      `${found.length} GGUF files found (${found.map(([path]) => path).join(', ')}); give the adapter alone`,
    )
  const [first] = found
  return first === undefined ? null : { configPath: null, config: {}, weightsPath: first[0] }
}

export const GGUF: SourceFormat = {
  format: 'gguf',
  tool: 'llama.cpp (GGUF)',
  detect,
  import: importGguf,
}
