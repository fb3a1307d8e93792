import { type BaseSites, createBaseSites } from '@graft/sdk/format/base-sites.ts'
import { encodeBase64 } from '@graft/sdk/format/base64url.ts'
import { readAll } from '@graft/sdk/format/byte-source.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { LiteralTensor } from '@graft/sdk/format/manifest.ts'
import type { Replace } from '@graft/sdk/format/operations.ts'
import { openSafetensors } from '@graft/sdk/format/safetensors-source.ts'
import { type Collector, type Compiled, type CompiledPart, createCollector } from '../compiled.ts'
import {
  type ConfigReader,
  checkKeys,
  inertKeys,
  type KeyTable,
  readConfig,
} from '../config-keys.ts'
import type { Detected, ImportBase, SourceFiles } from '../source-format.ts'
import { compileAdaLora } from './adalora.ts'
import { compileBoft } from './boft.ts'
import { BOFT_KEYS, FOURIERFT_KEYS, LOHA_KEYS, LOKR_KEYS, OFT_KEYS } from './dense-keys.ts'
import { compileExtras, replaceTensor, tokenRows } from './extra.ts'
import { compileFourierFt } from './fourierft.ts'
import { compileIa3 } from './ia3.ts'
import {
  ADALORA_KEYS,
  IA3_KEYS,
  LN_KEYS,
  LORA_KEYS,
  P_TUNING_KEYS,
  PREFIX_KEYS,
  PROMPT_KEYS,
  TOKENS_KEYS,
  VERA_KEYS,
} from './keys.ts'
import { compileLoha } from './loha.ts'
import { compileLokr } from './lokr.ts'
import { compileLora } from './lora.ts'
import { compileOft } from './oft.ts'
import { withAliases } from './path-aliases.ts'
import { compilePrefix, compilePrompt } from './prompts.ts'
import { REFUSED_TYPES } from './refused-types.ts'
import { checkTargets } from './targets.ts'
import { compileVera } from './vera.ts'

type Compile = (
  collector: Collector,
  keys: ReadonlyMap<string, string>,
  config: ConfigReader,
  sites: BaseSites,
  modelType: string,
) => PeftPart | Promise<PeftPart>

/** Small source tensors that no operation reads are kept beside the part. */
type PeftPart = CompiledPart & { literals?: LiteralTensor[] }

const PREFIX = 'base_model.model.'

/** All that is known of a PEFT type; the others are refused by name. */
const TYPES: Record<string, { keys: KeyTable; compile: Compile }> = {
  LORA: { keys: LORA_KEYS, compile: compileLora },
  ADALORA: { keys: ADALORA_KEYS, compile: compileAdaLora },
  VERA: { keys: VERA_KEYS, compile: compileVera },
  IA3: { keys: IA3_KEYS, compile: compileIa3 },
  LOHA: { keys: LOHA_KEYS, compile: compileLoha },
  LOKR: { keys: LOKR_KEYS, compile: compileLokr },
  OFT: { keys: OFT_KEYS, compile: compileOft },
  BOFT: { keys: BOFT_KEYS, compile: compileBoft },
  FOURIERFT: { keys: FOURIERFT_KEYS, compile: compileFourierFt },
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
  config: ConfigReader,
  sites: BaseSites,
): CompiledPart {
  const operations: Replace[] = []
  const rest = new Map<string, string>()
  const adapted = new Set<string>()
  for (const [inner, key] of keys) {
    const [, path, param] = /^(.+)\.ln_tuning_layers\.(weight|bias)$/.exec(inner) ?? []
    if (path !== undefined && (param === 'weight' || param === 'bias')) {
      operations.push(replaceTensor(collector, sites, key, path, param))
      adapted.add(path)
    } else rest.set(inner, key)
  }
  const isNorm = (path: string) => sites.shape(`${path}.weight`)?.length === 1
  const renamed = [...adapted].some((path) => !sites.has(path))
  checkTargets(config, adapted, renamed ? [] : sites.modules.filter(isNorm))
  const extras = compileExtras(collector, sites, config, rest, 'none')
  return {
    family: 'ln',
    flags: extras.flags,
    operations: [...operations, ...extras.operations],
    training: {},
  }
}

/** Rows of embeddings; a tied head's are saved beside them. */
function compileTokens(
  collector: Collector,
  keys: ReadonlyMap<string, string>,
  config: ConfigReader,
  sites: BaseSites,
): CompiledPart {
  const operations: Replace[] = []
  const adapted = new Set<string>()
  for (const [inner, key] of keys) {
    const path = /^(.+)\.trainable_tokens_delta$/.exec(inner)?.[1]
    if (path === undefined) continue
    operations.push(tokenRows(collector, sites, key, path, config.value('token_indices')))
    if (sites.resolve(path) !== sites.tiedHead) adapted.add(path)
  }
  checkTargets(config, adapted, [])
  return { family: 'trainable_tokens', flags: [], operations, training: {} }
}

function refuseType(configPath: string, name: string): GraftError {
  const known = Object.hasOwn(REFUSED_TYPES, name) ? REFUSED_TYPES[name] : undefined
  return new GraftError(
    'ERR_METHOD_UNSUPPORTED',
    known === undefined
      ? `${configPath}: peft_type ${name} is not known; supported are ${Object.keys(TYPES).join(', ')}`
      : `${configPath}: peft_type ${name} is not supported: ${known.why}. ${known.wayOut}`,
  )
}

/** @throws ERR_METHOD_UNSUPPORTED, ERR_CONFIG_UNKNOWN_KEY, ERR_CONFIG_INVALID, ERR_BASE_MUTATED, ERR_TENSOR_* */
export async function importPeft(
  detected: Detected,
  files: SourceFiles,
  base: ImportBase,
): Promise<Compiled> {
  const { config } = detected
  const configPath = detected.configPath!
  const name = String(config['peft_type'])
  const type = Object.hasOwn(TYPES, name) ? TYPES[name] : undefined
  if (type === undefined) throw refuseType(configPath, name)
  checkKeys(config, type.keys, configPath)
  const reader = readConfig(config, configPath)
  const { tensors, metadata } = await openSafetensors(files.get(detected.weightsPath)!)
  const collector = createCollector(tensors)
  const keys = new Map<string, string>()
  for (const key of tensors.keys())
    if (key.startsWith(PREFIX)) keys.set(key.slice(PREFIX.length), key)
  const { modelType } = base.identity
  const { sites, alias } = withAliases(createBaseSites(base.tensors, modelType), keys.keys())
  const { literals, ...part } = await type.compile(collector, keys, reader, sites, modelType)
  collector.assertAllTaken(
    `Keys must start with "${PREFIX}", name modules of this base, and be what ${name} and the config's modules_to_save and bias store`,
  )
  const version = config['peft_version']
  return {
    ...part,
    training: { ...part.training, ...(alias === null ? {} : { moduleNames: alias }) },
    tensors: collector.tensors,
    origin: {
      toolVersion: typeof version === 'string' && version !== '' ? version : null,
      config: encodeBase64(await readAll(files.get(configPath)!)),
      keyMap: collector.keyMap,
      metadata,
      ...(literals === undefined || literals.length === 0 ? {} : { literals }),
    },
    inert: inertKeys(config, type.keys),
  }
}
