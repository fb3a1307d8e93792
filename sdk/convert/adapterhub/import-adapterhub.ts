import { createBaseSites } from '@graft/sdk/format/base-sites.ts'
import { encodeBase64 } from '@graft/sdk/format/base64url.ts'
import { readAll } from '@graft/sdk/format/byte-source.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { openSafetensors } from '@graft/sdk/format/safetensors-source.ts'
import type { Json } from '@graft/sdk/format/strict-json.ts'
import { type Compiled, type CompiledPart, createCollector } from '../compiled.ts'
import { readConfigFile } from '../config-file.ts'
import { checkKeys, inertKeys, type KeyTable, readConfig } from '../config-keys.ts'
import type { ConfigObject, Detected, ImportBase, SourceFiles } from '../source-format.ts'
import { compileBottleneck } from './bottleneck.ts'
import { FAMILIES, type Family } from './families.ts'
import { HEAD_FILES, importHead } from './head.ts'
import { INTERFACE_FILE, readInterface } from './interface.ts'
import { BN_KEYS, LORA_KEYS, PREFIX_KEYS, TOP_KEYS } from './keys.ts'
import { compileLora } from './lora.ts'
import { compilePrefix } from './prefix.ts'
import { readVersion, type Version } from './version.ts'
import { findBlocks, keyFinder, type Work } from './work.ts'

const isObject = (value: Json): value is ConfigObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Architectures that no operation holds, and the way out of each. */
const REFUSED: Readonly<Record<string, string>> = {
  prompt_tuning:
    "the library puts the prompt behind the embedding's own norm and positions, and in encoders only. Train the prompt with PEFT",
  reft: 'ReFT edits the states at chosen positions of the prompt. Train LoRA, or a bottleneck adapter, instead',
  mtl_lora: 'MTL-LoRA mixes the tasks of one batch. Train each task as LoRA of its own',
}

async function familyOf(
  modelType: string,
  saved: string,
  interfacePath: string | undefined,
  files: SourceFiles,
): Promise<Family> {
  if (interfacePath !== undefined && saved === modelType)
    return readInterface(await readConfigFile(files, interfacePath), interfacePath, modelType)
  const family = Object.hasOwn(FAMILIES, modelType) ? FAMILIES[modelType] : undefined
  if (family !== undefined && saved === modelType) return family
  throw new GraftError(
    family === undefined ? 'ERR_ARCHITECTURE_UNSUPPORTED' : 'ERR_BASE_MISMATCH',
    `adapters of AdapterHub are read for ${Object.keys(FAMILIES).join(', ')}, and with an ${INTERFACE_FILE}; the adapter is of ${saved}, the base of ${modelType}`,
  )
}

interface Method {
  keys: KeyTable
  compile(work: Work, config: ConfigObject, where: string): Promise<CompiledPart>
}

/** The methods of a config: itself, or the ones that a union names. */
function methodsOf(config: ConfigObject, where: string, version: Version): Method[] {
  const architecture = config['architecture'] ?? null
  if (architecture === 'lora')
    return [
      {
        keys: LORA_KEYS,
        compile: (work, inner, at) => compileLora(work, readConfig(inner, at), version.faultyScale),
      },
    ]
  if (architecture === 'prefix_tuning')
    return [
      {
        keys: PREFIX_KEYS,
        compile: (work, inner, at) => compilePrefix(work, readConfig(inner, at)),
      },
    ]
  if (architecture === null || architecture === 'bottleneck')
    return [
      {
        keys: BN_KEYS,
        compile: (work, inner, at) =>
          compileBottleneck(work, readConfig(inner, at), version.text !== null),
      },
    ]
  const name = String(architecture)
  const why = Object.hasOwn(REFUSED, name) ? REFUSED[name] : 'it is not known'
  throw new GraftError(
    'ERR_METHOD_UNSUPPORTED',
    `${where}: architecture ${JSON.stringify(architecture)} cannot be read: ${why}`,
  )
}

/** Configs of a union stand beside each other; any other config is alone. */
function splitUnion(config: ConfigObject, where: string, version: Version): ConfigObject[] {
  if (config['architecture'] !== 'union') return [config]
  checkKeys(config, { architecture: 'read', configs: 'read' }, where)
  const { configs } = config
  if (!Array.isArray(configs) || configs.length === 0 || !configs.every(isObject))
    throw new GraftError(
      'ERR_CONFIG_INVALID',
      expected(`${where}: configs`, 'a list of configurations', configs),
    )
  // The library repairs the scale of a LoRA by itself, not of one inside a union.
  const lora = configs.find(
    (inner) => inner['architecture'] === 'lora' && (inner['r'] ?? 8) !== (inner['alpha'] ?? 8),
  )
  if (version.faultyScale && lora !== undefined)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `${where}: a LoRA with r ${lora['r']} and alpha ${lora['alpha']} in a union of adapters ${version.text}, which trained it without its scale and loads it with it. Set alpha to r if the adapter is to work as trained, and version to 1.1.0`,
    )
  return configs
}

const keepFiles = (paths: readonly string[], folder: string, files: SourceFiles) =>
  Promise.all(
    paths.map(async (path) => {
      return {
        path: path.slice(folder.length),
        data: encodeBase64(await readAll(files.get(path)!)),
      }
    }),
  )

/**
 * What AdapterHub's `adapters` saved: bottlenecks, LoRA, DoRA, VeRA, IA3, prefix tuning, unions of these, and a head.
 * @throws ERR_METHOD_UNSUPPORTED, ERR_CONFIG_*, ERR_TENSOR_*, ERR_BASE_MISMATCH, ERR_ARCHITECTURE_UNSUPPORTED
 */
export async function importAdapterHub(
  detected: Detected,
  files: SourceFiles,
  base: ImportBase,
): Promise<Compiled> {
  const { config } = detected
  const configPath = detected.configPath!
  const { modelType } = base.identity
  checkKeys(config, TOP_KEYS, configPath)
  const top = readConfig(config, configPath)
  const inner = top.value('config')
  if (!isObject(inner))
    return top.fail('config', "the adapter's whole configuration, as adapters 1.x writes it")
  const { others = [] } = detected
  const interfacePath = others.find((path) => path.endsWith(INTERFACE_FILE))
  const family = await familyOf(modelType, top.text('model_type'), interfacePath, files)
  const version = readVersion(top.value('version'))
  const sites = createBaseSites(base.tensors, modelType)
  const { tensors, metadata } = await openSafetensors(files.get(detected.weightsPath)!)
  const collector = createCollector(tensors)
  const blocks = findBlocks(sites, family)
  const name = top.text('name')
  const hidden = top.integer('hidden_size', 1)
  const work: Work = {
    collector,
    sites,
    family,
    blocks,
    name,
    hidden,
    baseConfig: base.config,
    keyIn: keyFinder(collector.keys, blocks, family),
  }
  const parts: CompiledPart[] = []
  const inert = inertKeys(config, TOP_KEYS)
  const where = `${configPath}: config`
  for (const one of splitUnion(inner, where, version))
    for (const method of methodsOf(one, where, version)) {
      checkKeys(one, method.keys, where)
      parts.push(await method.compile(work, one, where))
      inert.push(...inertKeys(one, method.keys))
    }
  collector.assertAllTaken(
    `Keys must be those of "${name}" in the layers and modules that the config adapts`,
  )
  const folder = configPath.slice(0, -'adapter_config.json'.length)
  const withHead = others.includes(folder + HEAD_FILES.weights)
  const head = withHead ? await importHead(folder, files, base) : null
  const kept = [
    ...(withHead ? [folder + HEAD_FILES.config] : []),
    ...(interfacePath ? [interfacePath] : []),
  ]
  return {
    family: parts.length === 1 ? parts[0]!.family : 'union',
    flags: [...new Set([...parts.flatMap(({ flags }) => flags), ...(head ? ['head'] : [])])],
    operations: [...parts.flatMap(({ operations }) => operations), ...(head?.operations ?? [])],
    tensors: new Map([...collector.tensors, ...(head?.tensors ?? [])]),
    origin: {
      toolVersion: version.text,
      config: encodeBase64(await readAll(files.get(configPath)!)),
      keyMap: [...collector.keyMap, ...(head?.keyMap ?? [])],
      metadata,
      ...(kept.length === 0 ? {} : { files: await keepFiles(kept, folder, files) }),
    },
    inert: [...new Set(inert)],
    training: Object.assign({}, ...parts.map(({ training }) => training)),
  }
}
