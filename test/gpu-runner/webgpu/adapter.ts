import { DeviceMemory } from '@graft/runner/engine/onnx/device-memory.ts'
import { describe, vi } from 'vitest'

// A software adapter compiles every shader on the CPU, beside whatever else runs there.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 })

/** Why no graph can run on WebGPU here; null where one can. */
async function whyNoAdapter(): Promise<string | null> {
  try {
    await (await DeviceMemory.open()).dispose()
    return null
  } catch (e) {
    return (e as Error).message
  }
}

const missing = await whyNoAdapter()
if (missing !== null) {
  if (process.env['GRAFT_WEBGPU_REQUIRED']) throw new Error(missing)
  console.warn(`skipped, npm run test:webgpu installs what is needed: ${missing}`)
}

/** A suite that needs an adapter: skipped, with the reason printed, where there is none. */
export const describeOnWebGpu = describe.skipIf(missing !== null)
