import { type BaseSites, createBaseSites } from '@graft/sdk/format/base-sites.ts'
import { encodeBase64 } from '@graft/sdk/format/base64url.ts'
import { readAll } from '@graft/sdk/format/byte-source.ts'
import { toDecimal } from '@graft/sdk/format/decimal.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Operation } from '@graft/sdk/format/operations.ts'
import { openSafetensors } from '@graft/sdk/format/safetensors-source.ts'
import { type Collector, type Compiled, type CompiledPart, createCollector } from '../compiled.ts'
import { type ConfigReader, checkKeys, inertKeys, readConfig } from '../config-keys.ts'
import type { ConfigObject, Detected, ImportBase, SourceFiles } from '../source-format.ts'
import { compileModule, type MlxSettings } from './compile-module.ts'
import { expertPaths } from './experts.ts'
import { compileFull } from './full.ts'
import { MLX_KEYS, PARAMETER_KEYS } from './keys.ts'
import { countBlocks, groupKeys, inBlock, isWrapped } from './modules.ts'

interface Targets {
  keys: readonly string[] | null
  layers: number
}

function parametersOf(config: ConfigReader): ConfigObject {
  const value = config.value('lora_parameters')
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? value
    : config.fail('lora_parameters', 'an object with rank and scale')
}

/** The base's blocks: those that the adapter's own paths name. */
function blocksOf(sites: BaseSites, paths: readonly string[]): { list: string; count: number } {
  for (const path of paths) {
    const list = inBlock(sites.resolve(path) ?? path)?.list
    if (list !== undefined) return { list, count: countBlocks(sites, list) }
  }
  return { list: '', count: 0 }
}

/**
 * The config says which modules mlx-lm adapts before it loads the weights; others it refuses, and ones without weights
 * are left as they began.
 */
function checkTargets(sites: BaseSites, paths: readonly string[], targets: Targets): void {
  const { list, count } = blocksOf(sites, paths)
  for (const path of paths)
    if (!isWrapped(path, count, targets))
      throw new GraftError(
        'ERR_CONFIG_INVALID',
        `the weights adapt ${path}, which num_layers ${targets.layers} (of ${count}, from the end) and lora_parameters.keys leave out: config and weights are of two adapters`,
      )
  const adapted = new Set(paths)
  const has = (path: string) => sites.has(path) || expertPaths(sites, path) !== null
  const first = targets.layers <= 0 ? 0 : Math.max(0, count - targets.layers)
  const outer = inBlock(paths.find((path) => inBlock(path) !== null) ?? '')?.list ?? list
  for (const key of targets.keys ?? []) {
    const inside = Array.from({ length: count - first }, (_, i) => `${outer}.${first + i}.${key}`)
    const wanted = adapted.has(key) ? [] : inside.filter((path) => has(path))
    const missing = wanted.find((path) => !adapted.has(path))
    if (missing !== undefined || (wanted.length === 0 && !adapted.has(key) && has(key)))
      throw new GraftError(
        'ERR_TENSOR_MISSING',
        `lora_parameters.keys names ${missing ?? key}, which the weights do not adapt: the file is incomplete or of another base`,
      )
  }
}

function compileLora(
  collector: Collector,
  sites: BaseSites,
  config: ConfigReader,
  dora: boolean,
): CompiledPart & { inert: string[] } {
  const inner = parametersOf(config)
  checkKeys(inner, PARAMETER_KEYS, 'lora_parameters')
  const parameters = readConfig(inner, 'lora_parameters')
  const layers = config.integer('num_layers', Number.MIN_SAFE_INTEGER)
  const scale = parameters.number('scale')
  const settings: MlxSettings = {
    rank: parameters.integer('rank', 1),
    scale: toDecimal(scale),
    dora,
  }
  const modules = groupKeys(collector.keys)
  checkTargets(
    sites,
    modules.map(({ path }) => path),
    { keys: parameters.names('keys'), layers },
  )
  const operations: Operation[] = modules.flatMap((module) =>
    compileModule(collector, sites, module, settings),
  )
  return {
    family: 'lora',
    flags: dora ? ['dora'] : [],
    operations,
    training: { rank: settings.rank, scale, dropout: inner['dropout'] ?? 0 },
    inert: inertKeys(inner, PARAMETER_KEYS),
  }
}

/**
 * What mlx-lm saved: LoRA, DoRA, or whole layers.
 * @throws ERR_METHOD_UNSUPPORTED, ERR_CONFIG_*, ERR_TENSOR_*
 */
export async function importMlx(
  detected: Detected,
  files: SourceFiles,
  base: ImportBase,
): Promise<Compiled> {
  const { config } = detected
  const configPath = detected.configPath!
  checkKeys(config, MLX_KEYS, configPath)
  const reader = readConfig(config, configPath)
  const { modelType } = base.identity
  const sites = createBaseSites(base.tensors, modelType)
  const { tensors, metadata } = await openSafetensors(files.get(detected.weightsPath)!)
  const collector = createCollector(tensors)
  const type = reader.text('fine_tune_type', 'lora')
  if (type !== 'lora' && type !== 'dora' && type !== 'full')
    return reader.fail('fine_tune_type', '"lora", "dora" or "full"')
  const part =
    type === 'full'
      ? { ...compileFull(collector, sites, modelType), inert: [] }
      : compileLora(collector, sites, reader, type === 'dora')
  collector.assertAllTaken(
    type === 'full'
      ? 'A full fine-tuning holds weights and biases of modules of this base'
      : 'Keys must end in .lora_a, .lora_b or (DoRA) .m',
  )
  return {
    family: part.family,
    flags: part.flags,
    operations: part.operations,
    tensors: collector.tensors,
    origin: {
      toolVersion: null,
      config: encodeBase64(await readAll(files.get(configPath)!)),
      keyMap: collector.keyMap,
      metadata,
    },
    inert: [...inertKeys(config, MLX_KEYS), ...part.inert],
    training: part.training,
  }
}
