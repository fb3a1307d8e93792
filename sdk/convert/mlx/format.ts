import { GraftError } from '@graft/sdk/format/errors.ts'
import { detectByConfig } from '../config-file.ts'
import type { Detected, OpenedFiles, SourceFormat } from '../source-format.ts'
import { MLX_FILES } from './files.ts'
import { importMlx } from './import-mlx.ts'

async function detect(opened: OpenedFiles): Promise<Detected | null> {
  const old = [...opened.files.keys()].find((path) => path.split('/').at(-1) === 'adapters.npz')
  return detectByConfig(
    opened,
    (config) => {
      const ours =
        !('peft_type' in config) && ('fine_tune_type' in config || 'lora_parameters' in config)
      if (ours && old !== undefined && !opened.files.has(old.replace(/npz$/, 'safetensors')))
        throw new GraftError(
          'ERR_SOURCE_UNKNOWN',
          `${old} is of an mlx-lm before safetensors; convert: mx.save_safetensors("adapters.safetensors", dict(mx.load("${old}")))`,
        )
      return ours
    },
    { safe: MLX_FILES.weights, pickle: 'adapters.bin' },
  )
}

export const MLX: SourceFormat = { format: 'mlx', tool: 'MLX', detect, import: importMlx }
