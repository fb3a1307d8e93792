import type { Exporter } from '../exporter.ts'
import { rebuildSafetensors } from '../restore.ts'
import { exportKohya } from './export-kohya.ts'
import { isKohyaKey } from './names.ts'

/** Kohya's users name their files; diffusers looks for this one. */
const FILES = { kohya: 'lora.safetensors', diffusers: 'pytorch_lora_weights.safetensors' } as const

export const KOHYA_EXPORTER: Exporter = {
  format: 'kohya',
  async rebuild(adapter) {
    const keys = adapter.manifest.origin?.keyMap ?? []
    const tool = keys.some(({ key }) => isKohyaKey(key)) ? 'kohya' : 'diffusers'
    return rebuildSafetensors(adapter, { config: null, weights: FILES[tool] })
  },
  export: (adapter, context) => exportKohya(adapter, context, FILES.kohya),
}
