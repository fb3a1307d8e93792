import type { BaseSites, LinearSite } from '@graft/sdk/format/base-sites.ts'
import { isDecimal, toDecimal } from '@graft/sdk/format/decimal.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { Dense, Replace } from '@graft/sdk/format/operations.ts'
import { type Collector, type CompiledPart, resolveSite } from '../compiled.ts'
import type { ConfigReader } from '../config-keys.ts'
import { compileExtras } from './extra.ts'
import { checkTargets } from './targets.ts'

/** An adapted module: its linear layer in the base, and what the file holds for it by part. */
export interface DenseModule<P extends string> {
  path: string
  linear: LinearSite
  /** Source key of a part. @throws ERR_TENSOR_MISSING */
  key(part: P): string
  shape(part: P): number[]
  has(part: P): boolean
}

/**
 * Compiles every module that has tensors of the type, and what PEFT saves beside them.
 * @param parts of a key behind the module's path, by their name: { '.hada_w1_a': 'w1a' }
 * @throws ERR_METHOD_UNSUPPORTED where a module is no linear layer, ERR_TENSOR_*, ERR_CONFIG_INVALID
 */
export function compileDense<P extends string>(
  [collector, keys, config, sites]: DenseInput,
  parts: Readonly<Record<string, P>>,
  compile: (module: DenseModule<P>) => Dense,
): { operations: (Dense | Replace)[]; flags: string[] } {
  const rest = new Map<string, string>()
  const modules = new Map<string, Map<P, string>>()
  for (const [inner, key] of keys) {
    const suffix = Object.keys(parts).find((end) => inner.endsWith(end))
    if (suffix === undefined) {
      rest.set(inner, key)
      continue
    }
    const path = inner.slice(0, -suffix.length)
    modules.set(path, (modules.get(path) ?? new Map()).set(parts[suffix]!, key))
  }
  const operations: (Dense | Replace)[] = [...modules].map(([path, held]) =>
    compile(openModule(collector, sites, path, held)),
  )
  const candidates = sites.modules.filter(
    (path) => sites.linear(path) !== null && !/(?:embed_tokens|wte|wpe)$/.test(path),
  )
  const renamed = [...modules.keys()].some((path) => !sites.has(path))
  checkTargets(config, new Set(modules.keys()), renamed ? [] : candidates)
  const extras = compileExtras(collector, sites, config, rest, biasOf(config))
  return { operations: [...operations, ...extras.operations], flags: extras.flags }
}

/** What a compiler of a PEFT type is given. */
export type DenseInput = readonly [
  collector: Collector,
  keys: ReadonlyMap<string, string>,
  config: ConfigReader,
  sites: BaseSites,
]

export type CompileDense = (...input: DenseInput) => CompiledPart

function openModule<P extends string>(
  collector: Collector,
  sites: BaseSites,
  path: string,
  held: ReadonlyMap<P, string>,
): DenseModule<P> {
  const [first] = held.values()
  const site = resolveSite(sites, path, first!)
  const key = (part: P): string => {
    const found = held.get(part)
    if (found !== undefined) return found
    throw new GraftError('ERR_TENSOR_MISSING', `module ${path} has no ${part}, beside ${first}`)
  }
  const linear = sites.linear(site)
  if (linear === null || /(?:embed_tokens|wte|wpe)$/.test(site))
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `${path} is not a linear layer (its weight is [${sites.shape(`${site}.weight`)}]), and dense updates of anything else are not supported; leave it out of target_modules`,
    )
  return {
    path,
    linear,
    key,
    shape: (part) => collector.peek(key(part))!.shape,
    has: (part) => held.has(part),
  }
}

/** As compileExtras has it: every type's `..._only` means the biases of the adapted modules. */
function biasOf(config: ConfigReader): 'none' | 'all' | 'lora_only' {
  const bias = config.text('bias', 'none')
  if (bias === 'none' || bias === 'all') return bias
  return bias.endsWith('_only') ? 'lora_only' : config.fail('bias', '"none", "all" or "..._only"')
}

/** @throws ERR_TENSOR_SHAPE when config and weights are of two adapters, or the base is another */
export function assertShape<P extends string>(
  { key, shape }: DenseModule<P>,
  part: P,
  want: readonly number[],
  why: string,
): void {
  const got = shape(part)
  if (got.join() !== want.join())
    throw new GraftError(
      'ERR_TENSOR_SHAPE',
      expected(`tensor ${key(part)}`, `[${want}] (${why})`, got),
    )
}

/** A factor of the maths as a decimal. @throws ERR_CONFIG_INVALID */
export function decimalOf(config: ConfigReader, key: string, value: number): string {
  const text = Number.isFinite(value) ? toDecimal(value) : ''
  return isDecimal(text) ? text : config.fail(key, 'of a usual magnitude')
}

/** @throws ERR_METHOD_UNSUPPORTED where the file has a tensor whose key ends so */
export function refuseEndings(
  keys: ReadonlyMap<string, string>,
  endings: Readonly<Record<string, string>>,
): void {
  for (const [inner, key] of keys)
    for (const [end, why] of Object.entries(endings))
      if (inner.endsWith(end))
        throw new GraftError('ERR_METHOD_UNSUPPORTED', `tensor ${key}: ${why}`)
}
