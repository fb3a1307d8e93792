import type { Exporter } from '../exporter.ts'
import { exportGguf } from './export-gguf.ts'
import { rebuildGguf } from './rebuild-gguf.ts'

/** llama.cpp's users name their files. */
const FILE = 'adapter.gguf'

export const GGUF_EXPORTER: Exporter = {
  format: 'gguf',
  rebuild: async (adapter) => new Map([[FILE, rebuildGguf(adapter)]]),
  async export(adapter, context) {
    const { weights, losses, notes } = await exportGguf(adapter, context)
    return { files: new Map([[FILE, weights]]), losses, notes }
  },
}
