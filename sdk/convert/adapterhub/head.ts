import { createBaseSites } from '@graft/sdk/format/base-sites.ts'
import { sameBytes } from '@graft/sdk/format/byte-source.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { KeyRow } from '@graft/sdk/format/manifest.ts'
import type { Replace } from '@graft/sdk/format/operations.ts'
import { openSafetensors, safetensorsSource } from '@graft/sdk/format/safetensors-source.ts'
import type { TensorSource } from '@graft/sdk/format/tensor-source.ts'
import { createCollector } from '../compiled.ts'
import { readConfigFile } from '../config-file.ts'
import { checkKeys, readConfig } from '../config-keys.ts'
import { replaceWhole } from '../replace-whole.ts'
import { restoreTensors } from '../restore.ts'
import type { ConfigObject, ImportBase, SourceFiles } from '../source-format.ts'
import { HEAD_KEYS, LM_HEAD_KEYS } from './keys.ts'

export const HEAD_FILES = { config: 'head_config.json', weights: 'model_head.safetensors' } as const

export interface CompiledHead {
  operations: Replace[]
  tensors: Map<string, TensorSource>
  keyMap: KeyRow[]
}

const WAY_OUT =
  "Save with with_head=False, or leave the file out, where the base's own head is meant"

/** The base's path of each tensor of the head. A class of the library's own calls its head by the adapter's name. */
function pathsOf(config: ConfigObject, path: string, keys: readonly string[]): Map<string, string> {
  checkKeys(config, HEAD_KEYS, path)
  const inner = config['config'] ?? null
  if (inner === null) return new Map(keys.map((key) => [key, key]))
  if (typeof inner !== 'object' || Array.isArray(inner))
    throw new GraftError('ERR_CONFIG_INVALID', expected(`${path}: config`, 'an object', inner))
  const head = readConfig(inner, `${path}: config`)
  const type = head.text('head_type')
  if (type !== 'causal_lm')
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `${path}: a head of type ${type} has no place in the base. ${WAY_OUT}`,
    )
  checkKeys(inner, LM_HEAD_KEYS, `${path}: config`)
  if (head.integer('layers', 1, 1) !== 1)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `${path}: the head has ${head.integer('layers', 1)} layers, the base's has one. ${WAY_OUT}`,
    )
  const name = readConfig(config, path).text('name')
  return new Map(
    keys.map((key) => [key, key.replace(`heads.${name}.0.`, 'lm_head.')] as [string, string]),
  )
}

/**
 * A prediction head beside the adapter: whole tensors instead of the base's.
 * @throws ERR_METHOD_UNSUPPORTED for a head that the base has not, ERR_TENSOR_*
 */
export async function importHead(
  folder: string,
  files: SourceFiles,
  base: ImportBase,
): Promise<CompiledHead> {
  const [configPath, weightsPath] = [folder + HEAD_FILES.config, folder + HEAD_FILES.weights]
  const source = files.get(weightsPath)!
  const config = await readConfigFile(files, configPath)
  const { tensors } = await openSafetensors(source)
  const sites = createBaseSites(base.tensors, base.identity.modelType)
  const collector = createCollector(tensors, HEAD_FILES.weights)
  const operations: Replace[] = []
  for (const [key, path] of pathsOf(config, configPath, collector.keys)) {
    const [, module, param] = /^(.+)\.(weight|bias)$/.exec(path) ?? []
    if (module === undefined || sites.shape(path) === null)
      throw new GraftError(
        'ERR_METHOD_UNSUPPORTED',
        `tensor ${key} of ${weightsPath} is a head that the base has not. ${WAY_OUT}`,
      )
    operations.push(replaceWhole(collector, sites, key, module, param as 'weight' | 'bias'))
  }
  const { keyMap } = collector
  const again = restoreTensors({ keyMap }, collector.tensors, HEAD_FILES.weights)
  if (!(await sameBytes(safetensorsSource(again), source)))
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `${weightsPath} is not laid out as the safetensors library writes it, so it could not be given back; save the head again`,
    )
  return { operations, tensors: collector.tensors, keyMap }
}
