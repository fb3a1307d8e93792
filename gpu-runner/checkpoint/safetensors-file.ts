import { closeSync, openSync, readSync, statSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { GraftError } from '@graft/sdk/format/errors.ts'
import {
  MAX_SAFETENSORS_HEADER_BYTES,
  parseSafetensorsHeader,
  type Tensor,
} from '@graft/sdk/format/safetensors.ts'

/** A tensor of a file. */
export interface FileTensor extends Tensor {
  /** Bytes [begin, end) of its data. */
  bytes(begin: number, end: number): Uint8Array
}

/** A safetensors file whose tensors are read from disk when their data is asked for, and not kept. */
export async function openSafetensorsFile(
  path: string,
): Promise<{ tensors: Map<string, FileTensor>; metadata: Record<string, string> }> {
  const file = await open(path)
  try {
    const { size, mtimeMs } = await file.stat()
    const { tensors, metadata, dataStart } = parseSafetensorsHeader(
      await headerBytes(file, size),
      size,
    )
    const read = (begin: number, end: number): Uint8Array => {
      const now = statSync(path, { throwIfNoEntry: false })
      if (now?.size !== size || now.mtimeMs !== mtimeMs)
        throw new GraftError(
          'ERR_CHECKPOINT_INVALID',
          `${path} changed while it was in use; start again`,
        )
      return readRange(path, dataStart + begin, end - begin)
    }
    return {
      tensors: new Map(
        tensors.map(({ name, dtype, shape, begin, end }) => [
          name,
          {
            dtype,
            shape,
            get data() {
              return read(begin, end)
            },
            bytes: (from: number, to: number) => read(begin + from, begin + to),
          },
        ]),
      ),
      metadata,
    }
  } finally {
    await file.close()
  }
}

async function headerBytes(file: FileHandle, size: number): Promise<Uint8Array> {
  const prefix = new Uint8Array(Math.min(size, 64))
  await file.read(prefix, 0, prefix.length, 0)
  if (size < 8) return prefix
  const length = new DataView(prefix.buffer).getBigUint64(0, true)
  // A forged length is refused by the parser, which needs no more than the prefix to see it.
  if (length > BigInt(MAX_SAFETENSORS_HEADER_BYTES) || 8n + length > BigInt(size)) return prefix
  const header = new Uint8Array(8 + Number(length))
  await file.read(header, 0, header.length, 0)
  return header
}

function readRange(path: string, position: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  const file = openSync(path, 'r')
  try {
    for (let at = 0; at < length; ) {
      const count = readSync(file, bytes, at, length - at, position + at)
      if (count === 0)
        throw new GraftError('ERR_CHECKPOINT_INVALID', `${path} ends early; restore the file`)
      at += count
    }
  } finally {
    closeSync(file)
  }
  return bytes
}
