import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, readFile, stat } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { describeBase } from '@graft/sdk/format/base-identity.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { expected, GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import {
  MAX_SAFETENSORS_HEADER_BYTES,
  parseSafetensorsHeader,
} from '@graft/sdk/format/safetensors.ts'
import type { BaseRecord } from '@graft/sdk/protocol/registry-api.ts'
import { readBytes, weightFiles } from './read-checkpoint.ts'

/** What a checkpoint folder is, for the registry: file digests and safetensors headers; weights are only hashed. */
export async function describeCheckpoint(
  folder: string,
  name = basename(resolve(folder)),
): Promise<BaseRecord> {
  const files = []
  for (const path of await weightFiles(folder)) files.push(await describeFile(folder, path))
  return describeBase({
    name,
    configJson: await readBytes(join(folder, 'config.json')),
    tokenizerJson: await readFile(join(folder, 'tokenizer.json')).catch(() => null),
    files,
  })
}

async function describeFile(folder: string, path: string) {
  const full = join(folder, path)
  await readable(full)
  const { size } = await stat(full)
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(full)) hash.update(chunk)
  return { path, size, sha256: fromHex(hash.digest('hex')), header: await readHeader(full, size) }
}

async function readable(path: string): Promise<void> {
  const file = await open(path).catch((cause: NodeJS.ErrnoException) => {
    throw new GraftError('ERR_CHECKPOINT_INVALID', `${path} must be readable: ${cause.code}`, {
      cause,
    })
  })
  await file.close()
}

/** First 8 + N bytes, as safetensors states them. */
async function readHeader(path: string, size: number): Promise<Uint8Array> {
  const file = await open(path)
  try {
    const prefix = new Uint8Array(8)
    await file.read(prefix, 0, 8, 0)
    const length = Number(new DataView(prefix.buffer).getBigUint64(0, true))
    if (size < 8 || length > size - 8 || length > MAX_SAFETENSORS_HEADER_BYTES)
      throw new GraftError(
        'ERR_CHECKPOINT_INVALID',
        expected(`${path}: header length`, `at most ${size - 8}`, length),
      )
    const header = new Uint8Array(8 + length)
    await file.read(header, 0, 8 + length, 0)
    assertWhole(header, size, path)
    return header
  } finally {
    await file.close()
  }
}

/** A header that does not fit its file is a damaged checkpoint, and the message says which file. */
function assertWhole(header: Uint8Array, size: number, path: string): void {
  try {
    parseSafetensorsHeader(header, size)
  } catch (cause) {
    if (!isGraftError(cause)) throw cause
    throw new GraftError(
      'ERR_CHECKPOINT_INVALID',
      `${path} is damaged: ${cause.message}; restore the file`,
      { cause },
    )
  }
}
