import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { BaseTensor } from '@graft/sdk/format/base-identity.ts'
import {
  MAX_SAFETENSORS_HEADER_BYTES,
  parseSafetensorsHeader,
} from '@graft/sdk/format/safetensors.ts'
import { weightFiles } from './checkpoint/read-checkpoint.ts'

async function readHeader(path: string): Promise<BaseTensor[]> {
  const file = await open(path)
  try {
    const { size } = await file.stat()
    const prefix = new Uint8Array(8)
    await file.read(prefix, 0, 8, 0)
    const length = Number(new DataView(prefix.buffer).getBigUint64(0, true))
    const header = new Uint8Array(8 + Math.min(length, MAX_SAFETENSORS_HEADER_BYTES))
    await file.read(header, 0, header.length, 0)
    return parseSafetensorsHeader(header, size).tensors
  } finally {
    await file.close()
  }
}

/** Names, dtypes and shapes of a checkpoint folder's tensors; no weights are read. @throws ERR_CHECKPOINT_INVALID */
export async function readBaseTensors(checkpoint: string): Promise<BaseTensor[]> {
  const names = await weightFiles(checkpoint)
  const headers = await Promise.all(names.map((name) => readHeader(join(checkpoint, name))))
  return headers.flat().map(({ name, dtype, shape }) => ({ name, dtype, shape }))
}
