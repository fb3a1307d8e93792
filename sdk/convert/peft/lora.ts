import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { isDecimal, toDecimal } from '@graft/sdk/format/decimal.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { LowRank, Magnitude } from '@graft/sdk/format/operations.ts'
import { type Collector, type CompiledPart, resolveSite } from '../compiled.ts'
import type { ConfigReader } from '../config-keys.ts'
import { compileExtras } from './extra.ts'
import { byPattern } from './patterns.ts'
import { checkTargets } from './targets.ts'

/** Initialisations that subtract from the base's weights: the adapter is right only on that changed base. */
const MUTATES_BASE = /^(?:pissa(?:_niter_\d+)?|olora|corda|loftq|lora_ga)$/
const KEEPS_BASE = new Set(['gaussian', 'eva', 'orthogonal', 'mica', 'kaiming', 'default'])

function checkInit(config: ConfigReader): void {
  const init = config.value('init_lora_weights')
  if (init === null || typeof init === 'boolean') return
  const name = String(init).toLowerCase()
  if (MUTATES_BASE.test(name))
    throw new GraftError(
      'ERR_BASE_MUTATED',
      name === 'loftq'
        ? 'init_lora_weights "loftq" replaces the base by its quantised weights; publish that base, or merge and train plain LoRA'
        : `init_lora_weights "${name}" takes the initial update out of the base, so the adapter is wrong on the true base. Convert: save the untrained adapter first, then save_pretrained(dir, path_initial_model_for_weight_conversion=that_dir)`,
    )
  if (!KEEPS_BASE.has(name)) config.fail('init_lora_weights', 'a known initialisation')
}

type Part = 'A' | 'B' | 'Bbias' | 'm'
const PARTS: readonly [RegExp, Part][] = [
  [/^(.+)\.lora_A\.weight$/, 'A'],
  [/^(.+)\.lora_B\.weight$/, 'B'],
  [/^(.+)\.lora_B\.bias$/, 'Bbias'],
  [/^(.+)\.lora_magnitude_vector(?:\.weight)?$/, 'm'],
]

/** Source keys of each adapted module, and the keys that are none of LoRA's. */
function group(keys: ReadonlyMap<string, string>) {
  const modules = new Map<string, Partial<Record<Part, string>>>()
  const rest = new Map<string, string>()
  for (const [inner, key] of keys) {
    if (/\.lora_embedding_[AB]$/.test(inner))
      throw new GraftError(
        'ERR_METHOD_UNSUPPORTED',
        `tensor ${key} is LoRA on an embedding, which is not supported; train the rows with trainable_token_indices or the whole with modules_to_save`,
      )
    const found = PARTS.map(([pattern, part]) => ({ path: pattern.exec(inner)?.[1], part })).find(
      ({ path }) => path !== undefined,
    )
    if (found?.path === undefined) rest.set(inner, key)
    else modules.set(found.path, { ...modules.get(found.path), [found.part]: key })
  }
  return { modules, rest }
}

/** LoRA, rsLoRA, DoRA, with patterns, biases, saved modules and token rows. */
export function compileLora(
  collector: Collector,
  keys: ReadonlyMap<string, string>,
  config: ConfigReader,
  sites: BaseSites,
): CompiledPart {
  checkInit(config)
  const r = config.integer('r', 1, 8)
  const alpha = config.number('lora_alpha', 8)
  const rsLora = config.boolean('use_rslora', false)
  const dora = config.boolean('use_dora', false)
  const loraBias = config.boolean('lora_bias', false)
  const bias = config.text('bias', 'none')
  if (bias !== 'none' && bias !== 'all' && bias !== 'lora_only')
    return config.fail('bias', '"none", "all" or "lora_only"')
  const rankOf = byPattern(config, 'rank_pattern', r)
  const alphaOf = byPattern(config, 'alpha_pattern', alpha)
  const { modules, rest } = group(keys)
  const operations: (LowRank | Magnitude)[] = []
  for (const [path, parts] of modules) {
    const site = resolveSite(sites, path, Object.values(parts)[0]!)
    const linear = sites.linear(site)
    const a = collector.peek(parts.A ?? '')?.shape
    const b = collector.peek(parts.B ?? '')?.shape
    if (a === undefined || b === undefined)
      throw new GraftError(
        'ERR_TENSOR_MISSING',
        `module ${path} has lora_${a ? 'A' : 'B'} but no lora_${a ? 'B' : 'A'}`,
      )
    if (linear === null || a.length !== 2 || b.length !== 2)
      throw new GraftError(
        'ERR_METHOD_UNSUPPORTED',
        `${path} is not a linear layer (lora_A [${a}], lora_B [${b}]); only linear layers take low rank updates`,
      )
    const rank = rankOf(path)
    if (a[0] !== rank || b[1] !== rank)
      throw new GraftError(
        'ERR_TENSOR_SHAPE',
        `${expected(`${path}: rank`, `${rank} as the config says`, [a[0], b[1]])}; config and weights are of two adapters`,
      )
    if (a[1] !== linear.in || b[0] !== linear.out)
      throw new GraftError(
        'ERR_TENSOR_SHAPE',
        `${expected(path, `${linear.in} -> ${linear.out} as in the base`, `${a[1]} -> ${b[0]}`)}; the adapter was trained on another base`,
      )
    if (dora !== (parts.m !== undefined) || (dora && loraBias))
      throw new GraftError(
        dora ? 'ERR_TENSOR_MISSING' : 'ERR_TENSOR_UNMATCHED',
        `${path}: use_dora is ${dora} and lora_magnitude_vector is ${parts.m ? 'present' : 'absent'}`,
      )
    if (loraBias !== (parts.Bbias !== undefined))
      throw new GraftError(
        loraBias ? 'ERR_TENSOR_MISSING' : 'ERR_TENSOR_UNMATCHED',
        `${path}: lora_bias is ${loraBias} and lora_B.bias is ${parts.Bbias ? 'present' : 'absent'}`,
      )
    const scale = toDecimal(alphaOf(path) / (rsLora ? Math.sqrt(rank) : rank))
    if (!isDecimal(scale)) return config.fail('lora_alpha', 'of a usual magnitude')
    const A = collector.take(parts.A!, site, 'lora.A')
    const B = collector.take(parts.B!, site, 'lora.B')
    const { in: inside, out } = linear
    const shared = { site, in: inside, out, rank, scale }
    if (parts.m !== undefined) {
      // Convolutions keep it as [1, out, 1, 1]; a linear layer's has one axis.
      const m = collector.take(parts.m, site, 'lora.mag', [out])
      operations.push({ op: 'magnitude', ...shared, slots: { A, B, m } })
    } else {
      const Bbias = parts.Bbias && collector.take(parts.Bbias, site, 'lora.Bbias')
      operations.push({
        op: 'low_rank',
        ...shared,
        slots: { A, B, ...(Bbias === undefined ? {} : { Bbias }) },
      })
    }
  }
  const candidates = sites.modules.filter(
    (path) => sites.linear(path) !== null && !/(?:embed_tokens|wte|wpe)$/.test(path),
  )
  const renamed = [...modules.keys()].some((path) => !sites.has(path))
  checkTargets(config, new Set(modules.keys()), renamed ? [] : candidates)
  const extras = compileExtras(collector, sites, config, rest, bias)
  return {
    family: dora ? 'dora' : 'lora',
    flags: [...(rsLora ? ['rslora'] : []), ...(loraBias ? ['lora_bias'] : []), ...extras.flags],
    operations: [...operations, ...extras.operations],
    training: { r, lora_alpha: alpha, lora_dropout: config.number('lora_dropout', 0) },
  }
}
