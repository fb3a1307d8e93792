import { GraftError } from '@graft/sdk/format/errors.ts'
import { parseStrictJson } from '@graft/sdk/format/strict-json.ts'
import { checkKeys, inertKeys, readConfig } from '../config-keys.ts'
import { LORA_KEYS } from '../peft/keys.ts'
import { suffixMatch } from '../peft/python-pattern.ts'
import type { ConfigObject } from '../source-format.ts'

/** Where diffusers (since 0.34) keeps PEFT's config of each component, its keys prefixed by the component's name. */
const METADATA_KEY = 'lora_adapter_metadata'

export interface ComponentConfig {
  scaleOf(path: string, rank: number): number
  dora: boolean
  bias: boolean
  rsLora: boolean
  inert: string[]
}

/** The LoraConfig of each component; empty where the file keeps none. @throws ERR_CONFIG_*, ERR_METHOD_UNSUPPORTED */
export function readMetadata(
  metadata: Readonly<Record<string, string>>,
  components: Iterable<string>,
): Map<string, ComponentConfig> {
  const text = metadata[METADATA_KEY]
  if (text === undefined) return new Map()
  const where = `__metadata__.${METADATA_KEY}`
  const json = parseStrictJson(new TextEncoder().encode(text), where, 'ERR_CONFIG_INVALID')
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new GraftError('ERR_CONFIG_INVALID', `${where} must be a JSON object`)
  const configs = new Map<string, ComponentConfig>()
  for (const component of components) {
    const prefix = `${component}.`
    const config: ConfigObject = Object.fromEntries(
      Object.entries(json)
        .filter(([key]) => key.startsWith(prefix))
        .map(([key, value]) => [key.slice(prefix.length), value]),
    )
    // A file may keep the config of one component and not of another.
    if (Object.keys(config).length > 0)
      configs.set(component, readComponent(config, `${where}: ${component}`))
  }
  return configs
}

function readComponent(config: ConfigObject, where: string): ComponentConfig {
  checkKeys(config, LORA_KEYS, where)
  const read = readConfig(config, where)
  const r = read.integer('r', 1, 8)
  const alpha = read.number('lora_alpha', 8)
  const rsLora = read.boolean('use_rslora', false)
  const patterns = (key: string) =>
    read.numbers(key).map(([pattern, value]) => ({ pattern: suffixMatch(pattern), value }))
  const [ranks, alphas] = [patterns('rank_pattern'), patterns('alpha_pattern')]
  const pick = (list: typeof ranks, path: string, fallback: number): number =>
    list.find(({ pattern }) => pattern.test(path))?.value ?? fallback
  return {
    dora: read.boolean('use_dora', false),
    bias: read.boolean('lora_bias', false),
    rsLora,
    inert: inertKeys(config, LORA_KEYS),
    scaleOf(path, rank) {
      const said = pick(ranks, path, r)
      if (said !== rank)
        throw new GraftError(
          'ERR_TENSOR_SHAPE',
          `${where}: ${path} must be of rank ${said} as the metadata says, its weights are of ${rank}; metadata and weights are of two adapters`,
        )
      return pick(alphas, path, alpha) / (rsLora ? Math.sqrt(rank) : rank)
    },
  }
}
