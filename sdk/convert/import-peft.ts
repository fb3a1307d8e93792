import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Replace } from '@graft/sdk/format/operations.ts'
import type { Tensor } from '@graft/sdk/format/safetensors.ts'
import { type Collector, type Compiled, createCollector } from './compiled.ts'
import {
  type ConfigReader,
  checkKeys,
  inertKeys,
  type KeyTable,
  readConfig,
} from './config-keys.ts'
import type { ConfigObject } from './detect-source.ts'
import { replaceTensor, tokenRows } from './peft-extra.ts'
import { compileIa3 } from './peft-ia3.ts'
import {
  IA3_KEYS,
  LN_KEYS,
  LORA_KEYS,
  P_TUNING_KEYS,
  PREFIX_KEYS,
  PROMPT_KEYS,
  TOKENS_KEYS,
} from './peft-keys.ts'
import { compileLora } from './peft-lora.ts'
import { compilePrefix, compilePrompt } from './peft-prompts.ts'

type Part = Omit<Compiled, 'toolVersion' | 'inert' | 'tensors' | 'keyMap'>
type Compile = (
  collector: Collector,
  keys: ReadonlyMap<string, string>,
  config: ConfigReader,
  sites: BaseSites,
) => Part

const PREFIX = 'base_model.model.'

/** All that is known of a PEFT type; the others are refused by name. */
const TYPES: Record<string, { keys: KeyTable; compile: Compile }> = {
  LORA: { keys: LORA_KEYS, compile: compileLora },
  IA3: { keys: IA3_KEYS, compile: compileIa3 },
  LN_TUNING: { keys: LN_KEYS, compile: compileNorms },
  TRAINABLE_TOKENS: { keys: TOKENS_KEYS, compile: compileTokens },
  PREFIX_TUNING: {
    keys: PREFIX_KEYS,
    compile: (collector, _, config, sites) => compilePrefix(collector, config, sites),
  },
  PROMPT_TUNING: {
    keys: PROMPT_KEYS,
    compile: (collector, _, config, sites) => compilePrompt(collector, config, sites, 'prompt'),
  },
  P_TUNING: {
    keys: P_TUNING_KEYS,
    compile: (collector, _, config, sites) => compilePrompt(collector, config, sites, 'p_tuning'),
  },
}

/** LN tuning: whole norms instead of the base's. */
function compileNorms(
  collector: Collector,
  keys: ReadonlyMap<string, string>,
  _config: ConfigReader,
  sites: BaseSites,
): Part {
  const operations: Replace[] = []
  for (const [inner, key] of keys) {
    const [, path, param] = /^(.+)\.ln_tuning_layers\.(weight|bias)$/.exec(inner) ?? []
    if (path !== undefined && (param === 'weight' || param === 'bias'))
      operations.push(replaceTensor(collector, sites, key, path, param))
  }
  return { family: 'ln', flags: [], operations, training: {} }
}

/** Rows of embeddings; a tied head's are saved beside them. */
function compileTokens(
  collector: Collector,
  keys: ReadonlyMap<string, string>,
  config: ConfigReader,
  sites: BaseSites,
): Part {
  const operations: Replace[] = []
  for (const [inner, key] of keys) {
    const path = /^(.+)\.trainable_tokens_delta$/.exec(inner)?.[1]
    if (path !== undefined)
      operations.push(tokenRows(collector, sites, key, path, config.value('token_indices')))
  }
  return { family: 'trainable_tokens', flags: [], operations, training: {} }
}

/** @throws ERR_METHOD_UNSUPPORTED, ERR_CONFIG_UNKNOWN_KEY, ERR_CONFIG_INVALID, ERR_BASE_MUTATED, ERR_TENSOR_* */
export function importPeft(
  config: ConfigObject,
  configPath: string,
  source: ReadonlyMap<string, Tensor>,
  sites: BaseSites,
): Compiled {
  const name = String(config['peft_type'])
  const type = Object.hasOwn(TYPES, name) ? TYPES[name] : undefined
  if (type === undefined)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `${configPath}: peft_type ${name} is not supported; supported are ${Object.keys(TYPES).join(', ')}. PEFT can turn some methods into LoRA (convert_to_lora)`,
    )
  checkKeys(config, type.keys, configPath)
  const reader = readConfig(config, configPath)
  const collector = createCollector(source)
  const keys = new Map<string, string>()
  for (const key of source.keys())
    if (key.startsWith(PREFIX)) keys.set(key.slice(PREFIX.length), key)
  const part = type.compile(collector, keys, reader, sites)
  collector.assertAllTaken(
    `Keys must start with "${PREFIX}", name modules of this base, and be what ${name} and the config's modules_to_save and bias store`,
  )
  const version = config['peft_version']
  return {
    ...part,
    toolVersion: typeof version === 'string' && version !== '' ? version : null,
    tensors: collector.tensors,
    keyMap: collector.keyMap,
    inert: inertKeys(config, type.keys),
  }
}
