import { detectByConfig } from '../config-file.ts'
import type { SourceFormat } from '../source-format.ts'
import { importPeft } from './import-peft.ts'

export const PEFT_FILES = {
  config: 'adapter_config.json',
  weights: 'adapter_model.safetensors',
} as const

export const PEFT: SourceFormat = {
  format: 'peft',
  tool: 'PEFT',
  detect: (opened) =>
    detectByConfig(opened, (config) => typeof config['peft_type'] === 'string', {
      safe: PEFT_FILES.weights,
      pickle: 'adapter_model.bin',
    }),
  import: importPeft,
}
