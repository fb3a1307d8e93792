import { detectByConfig } from '../config-file.ts'
import type { SourceFormat } from '../source-format.ts'
import { importBottleneck } from './bottleneck.ts'

export const ADAPTERHUB_FILES = {
  config: 'adapter_config.json',
  weights: 'adapter.safetensors',
} as const

export const ADAPTERHUB: SourceFormat = {
  format: 'adapters',
  tool: 'AdapterHub',
  detect: (opened) =>
    detectByConfig(opened, (config) => 'config' in config && 'model_type' in config, {
      safe: ADAPTERHUB_FILES.weights,
      pickle: 'pytorch_adapter.bin',
    }),
  import: importBottleneck,
}
