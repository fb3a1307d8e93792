import type { ModelConfig } from '../../checkpoint/model-config.ts'
import type { Execution } from '../graph/execution.ts'
import { DeviceKv } from './device-kv.ts'
import { DeviceMemory } from './device-memory.ts'
import { HostKv } from './host-kv.ts'
import type { KvStore } from './kv-store.ts'

/** What differs between executions, sessions apart. */
export interface Backend {
  kv: KvStore
  /** Fewest rows of an input: a tensor without elements ends the process on WebGPU. */
  least: 0 | 1
  dispose(): Promise<void>
}

/** @throws ERR_NOT_INSTALLED when the machine lacks what the execution needs */
export async function openBackend(
  execution: Execution,
  config: ModelConfig,
  slots: number,
): Promise<Backend> {
  if (execution === 'cpu') {
    const kv = new HostKv(config, slots)
    return { kv, least: 0, dispose: () => kv.dispose() }
  }
  const memory = await DeviceMemory.open()
  const kv = await DeviceKv.open(config, memory, slots)
  return {
    kv,
    least: 1,
    async dispose() {
      await kv.dispose()
      await memory.dispose()
    },
  }
}
