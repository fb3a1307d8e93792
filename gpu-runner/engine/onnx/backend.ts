import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { ModelConfig } from '../../checkpoint/model-config.ts'
import type { Execution } from '../graph/execution.ts'
import { type BankTables, hostTables } from './bank-tables.ts'
import { DeviceKv } from './device-kv.ts'
import { DeviceMemory } from './device-memory.ts'
import { DeviceTables } from './device-tables.ts'
import { HostKv, type HostKvOptions } from './host-kv.ts'
import type { KvStore } from './kv-store.ts'

/** What differs between executions, sessions apart. */
export interface Backend {
  kv: KvStore
  tables: BankTables
  /** Fewest rows of an input: a tensor without elements ends the process on WebGPU. */
  least: 0 | 1
  dispose(): Promise<void>
}

/** @throws ERR_NOT_INSTALLED when the machine lacks what the execution needs */
export async function openBackend(
  execution: Execution,
  config: ModelConfig,
  options: HostKvOptions,
): Promise<Backend> {
  if (execution === 'cpu') {
    const kv = new HostKv(config, options)
    return { kv, tables: hostTables, least: 0, dispose: () => kv.dispose() }
  }
  if (options.precision !== 'fp32')
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      expected('kvPrecision on webgpu', 'fp32', options.precision),
    )
  const memory = await DeviceMemory.open()
  const kv = await DeviceKv.open(config, memory, options)
  const tables = new DeviceTables(memory)
  return {
    kv,
    tables,
    least: 1,
    async dispose() {
      await kv.dispose()
      tables.dispose()
      await memory.dispose()
    },
  }
}
