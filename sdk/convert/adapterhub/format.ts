import { GraftError } from '@graft/sdk/format/errors.ts'
import { detectByConfig } from '../config-file.ts'
import type { Detected, OpenedFiles, SourceFormat } from '../source-format.ts'
import { ADAPTERHUB_FILES } from './files.ts'
import { HEAD_FILES } from './head.ts'
import { importAdapterHub } from './import-adapterhub.ts'
import { INTERFACE_FILE } from './interface.ts'

const FUSION = 'adapter_fusion_config.json'

async function detect(opened: OpenedFiles): Promise<Detected | null> {
  const detected = await detectByConfig(
    opened,
    (config) => 'config' in config && 'model_type' in config,
    { safe: ADAPTERHUB_FILES.weights, pickle: 'pytorch_adapter.bin' },
  )
  const folder = detected?.configPath?.slice(0, -ADAPTERHUB_FILES.config.length)
  const fusion = [...opened.files.keys()].find((path) => path.split('/').at(-1) === FUSION)
  if (fusion !== undefined && (detected !== null || !opened.files.has('adapter_config.json')))
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `${fusion} is AdapterFusion, which attends over several adapters at once. Publish each adapter by itself, or one that the library averages (model.average_adapter)`,
    )
  if (detected === null || folder === undefined) return null
  const head = [folder + HEAD_FILES.config, folder + HEAD_FILES.weights]
  const others = [
    ...(head.every((path) => opened.files.has(path)) ? head : []),
    ...(opened.files.has(folder + INTERFACE_FILE) ? [folder + INTERFACE_FILE] : []),
  ]
  return { ...detected, others }
}

export const ADAPTERHUB: SourceFormat = {
  format: 'adapters',
  tool: 'AdapterHub',
  detect,
  import: importAdapterHub,
}
