import { join } from 'node:path'
import type { ImportBase } from '@graft/convert/source-format.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { expected, GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import { type Json, parseStrictJson } from '@graft/sdk/format/strict-json.ts'
import type { BaseRecord } from '@graft/sdk/protocol/registry-api.ts'
import { type CliContext, registryOf } from './context.ts'
import { isFolder, readIfThere, readRequired } from './files.ts'
import { findBase } from './find-base.ts'
import { describeFolder } from './local-base.ts'

export interface BaseFlags {
  /** Digest, name, folder of the model, or file of a base record. */
  base?: string
  /** The base's config.json, where --base names it only by digest, name or record. */
  baseConfig?: string
}

export type ChosenBase = ImportBase & { digest: Digest }

/** A folder that happens to be called like a base is none. */
const holdsModel = async (folder: string): Promise<boolean> =>
  (await readIfThere(join(folder, 'config.json'))) !== null ||
  (await readIfThere(join(folder, 'model_index.json'))) !== null

const looksLikePath = (text: string): boolean => /[\\/]|\.json$/.test(text)

async function readRecord(path: string): Promise<BaseRecord> {
  const bytes = await readRequired(path)
  const record = parseStrictJson(bytes, path, 'ERR_JSON_INVALID') as Partial<BaseRecord> | null
  if (record?.identity && record.digest && Array.isArray(record.tensors))
    return record as BaseRecord
  throw new GraftError(
    'ERR_JSON_INVALID',
    `${expected(path, 'a base record (digest, identity, tensors)', Object.keys(record ?? {}))}; the folder of the model does as well`,
  )
}

async function recordOf(
  context: CliContext,
  wanted: string | undefined,
  config: Uint8Array | null,
): Promise<BaseRecord & { config?: unknown }> {
  if (wanted !== undefined) {
    const folder = await isFolder(wanted)
    if (folder && (looksLikePath(wanted) || (await holdsModel(wanted))))
      return describeFolder(wanted, context.output)
    if (!folder && looksLikePath(wanted)) return readRecord(wanted)
  }
  try {
    return await findBase(registryOf(context), config, wanted)
  } catch (cause) {
    if (!isGraftError(cause) || cause.code !== 'ERR_UNREACHABLE') throw cause
    throw new GraftError(
      'ERR_UNREACHABLE',
      `${cause.message}; without a registry, give the base model's own folder: --base path/to/model`,
      { cause },
    )
  }
}

/**
 * The base that the user means: a folder, a record, or what the registry knows by digest or name; without --base the name that the
 * training tool wrote down.
 * @param config bytes of the adapter's config, null where its tool writes none
 */
export async function chooseBase(
  context: CliContext,
  { base, baseConfig }: BaseFlags,
  config: Uint8Array | null,
): Promise<ChosenBase> {
  const found = await recordOf(context, base, config)
  const own = 'config' in found ? (found.config as ImportBase['config']) : undefined
  const given =
    baseConfig === undefined
      ? own
      : (parseStrictJson(await readRequired(baseConfig), baseConfig, 'ERR_JSON_INVALID') as {
          [key: string]: Json
        })
  const { digest, identity, tensors } = found
  return { digest, identity, tensors, ...(given === undefined ? {} : { config: given }) }
}
