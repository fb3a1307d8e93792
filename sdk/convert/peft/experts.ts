import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { LowRank, Magnitude } from '@graft/sdk/format/operations.ts'
import { rowsOf } from '@graft/sdk/format/tensor-source.ts'
import { type Block, blockTransform, cutBlock } from '../blocks.ts'
import { resolveSite } from '../compiled.ts'
import {
  checkFactors,
  compileModule,
  factorShapes,
  type LoraContext,
  type LoraKeys,
} from './lora-modules.ts'

/**
 * PEFT's target_parameters: each adapted parameter of a module is a wrapper around the module, so the keys of all but
 * the last say `base_layer`. A [rank * experts, in] counts experts slowest, B [out, rank * experts] fastest.
 */
export interface Wrapper {
  /** How many `base_layer` follow the module's path; the parameter registered first is wrapped first and lies deepest. */
  depth: number
  keys: LoraKeys
}

/** In which order the modules of transformers register them. */
const REGISTERED = ['gate_up_proj', 'gate_up_proj_bias', 'down_proj', 'down_proj_bias']

/**
 * Bases whose files stack experts as [experts, in, out]. transformers marks some of them as transposed since version 5,
 * and PEFT then puts A on the other side, so adapters of both forms exist.
 */
const STACKED_IN_OUT: ReadonlySet<string> = new Set([
  ...['gpt_oss', 'llama4', 'llama4_text', 'qwen3_vl_moe', 'qwen3_vl_moe_text'],
])

/** Parameters that transformers 5 makes of the experts' separate linear layers, and those layers in the files. */
const FUSED: readonly Readonly<Record<string, readonly string[]>>[] = [
  { gate_up_proj: ['w1', 'w3'], down_proj: ['w2'] },
  { gate_up_proj: ['gate_proj', 'up_proj'], down_proj: ['down_proj'] },
]

interface Parameter extends Wrapper {
  /** Path of the module as the adapter names it, the parameter, and the module's site in the base. */
  path: string
  name: string
  site: string
}

const unsupported = (message: string): never => {
  throw new GraftError('ERR_METHOD_UNSUPPORTED', message)
}

/** Parameters of a module of the base that target_parameters name, as PEFT matches them: whole, or after a dot. */
export function parametersOf(
  sites: LoraContext['sites'],
  path: string,
  targets: readonly string[],
): string[] {
  const site = sites.resolve(path)
  const names = targets
    .map((target) => ({ target, name: target.slice(target.lastIndexOf('.') + 1) }))
    .filter(({ target, name }) => `.${path}.${name}`.endsWith(`.${target}`))
    .map(({ name }) => name)
    .filter(
      (name) => sites.shape(`${site}.${name}`) !== null || fusedOf(sites, `${site}`, name) !== null,
    )
  return [...new Set(names)]
}

/** Which wrapper adapts which parameter. @throws ERR_METHOD_UNSUPPORTED, ERR_TENSOR_MISSING, ERR_TENSOR_UNMATCHED */
function assign(
  { sites }: LoraContext,
  path: string,
  wrappers: readonly Wrapper[],
  targets: readonly string[],
): Parameter[] {
  const site = resolveSite(sites, path, Object.values(wrappers[0]!.keys)[0]!)
  const names = parametersOf(sites, path, targets)
  if (names.length !== wrappers.length)
    throw new GraftError(
      names.length > wrappers.length ? 'ERR_TENSOR_MISSING' : 'ERR_TENSOR_UNMATCHED',
      expected(
        `${path}: adapted parameters`,
        `${names.join(', ') || 'none'} of this base`,
        wrappers.length,
      ),
    )
  if (names.length > 1 && names.some((name) => !REGISTERED.includes(name)))
    unsupported(
      `${path}: in which order ${names.join(', ')} are wrapped is not known; adapt one of them at a time`,
    )
  names.sort((a, b) => REGISTERED.indexOf(a) - REGISTERED.indexOf(b))
  return [...wrappers]
    .sort((a, b) => b.depth - a.depth)
    .map((wrapper, i) => ({ ...wrapper, path, name: names[i]!, site }))
}

/** The linear layers of expert 0 in the base's files that a fused parameter stands for; null where there are none. */
function fusedOf(
  sites: LoraContext['sites'],
  site: string,
  name: string,
): readonly string[] | null {
  const found = FUSED.find((row) =>
    row[name]?.every((part) => sites.linear(`${site}.0.${part}`) !== null),
  )
  return found?.[name] ?? null
}

type Form = 'straight' | 'crossed'

/** The forms that a stack [experts, in, out] allows: A on its inputs, or A on what PEFT took for them. */
function formsOf(context: LoraContext, { path, site, name, keys }: Parameter): Form[] {
  const { a, b } = factorShapes(context, path, [keys.A, keys.B])
  const [, inside, out] = context.sites.shape(`${site}.${name}`)!
  return [
    ...(a[1] === inside && b[0] === out ? (['straight'] as const) : []),
    ...(a[1] === out && b[0] === inside ? (['crossed'] as const) : []),
  ]
}

/** One form holds in a whole file; square experts alone do not tell which. @throws ERR_METHOD_UNSUPPORTED */
function formOfFile(context: LoraContext, parameters: readonly Parameter[]): Form | null {
  const stacked = parameters.filter(
    ({ site, name }) => context.sites.shape(`${site}.${name}`)?.length === 3,
  )
  if (stacked.length === 0) return null
  const forms = stacked.map((parameter) => formsOf(context, parameter))
  const told = new Set(forms.filter((fits) => fits.length === 1).flat())
  const [form] = told
  if (told.size === 1 && form !== undefined) return form
  const { path, name } = stacked[0]!
  return unsupported(
    told.size === 0 && forms.every((fits) => fits.length === 2)
      ? `${path}.${name}: its experts are square, and adapters of transformers 4 and 5 differ in which side lora_A is on; adapt gate_up_proj too, whose shape tells`
      : `${path}.${name}: lora_A and lora_B fit neither side of the base's experts [${context.sites.shape(`${stacked[0]!.site}.${name}`)}]; the adapter was trained on another base`,
  )
}

function compileStack(
  context: LoraContext,
  { path, name, site: module, keys }: Parameter,
  form: Form,
  inOut: boolean,
): LowRank {
  const { collector, sites, settings } = context
  const site = `${module}.${name}`
  const [experts, first, second] = sites.shape(site) as [number, number, number]
  const place = inOut ? { in: first, out: second } : { in: second, out: first }
  const { a, b } = factorShapes(context, path, [keys.A, keys.B])
  const rank = settings.rankOf(`${path}.${name}`)
  const ranks = [a[0]! / experts, b[1]! / experts]
  const got = form === 'straight' ? { in: a[1], out: b[0] } : { in: b[0], out: a[1] }
  checkFactors(`${path}.${name}`, rank, { ranks, ...got }, place)
  const add = (key: string, slot: 'lora.A' | 'lora.B', view: number[], axes: number[]): string => {
    const source = collector.peek(key)!
    const block: Block = { view, begin: view.map(() => 0), end: view, axes }
    return collector.add(
      key,
      site,
      slot,
      cutBlock(source, block),
      blockTransform(block, source.shape),
    )
  }
  const scale = settings.scaleOf(`${path}.${name}`, rank)
  const [viewA, viewB] = [
    [experts, rank, a[1]!],
    [b[0]!, rank, experts],
  ] as const
  const slots =
    form === 'straight'
      ? {
          A: collector.take(keys.A!, site, 'lora.A', [...viewA]),
          B: add(keys.B!, 'lora.B', [...viewB], [2, 0, 1]),
        }
      : {
          A: add(keys.B!, 'lora.A', [...viewB], [2, 1, 0]),
          B: add(keys.A!, 'lora.B', [...viewA], [0, 2, 1]),
        }
  return { op: 'low_rank', site, ...place, rank, scale, experts, slots }
}

/** An update of stacked experts on a base whose files hold them apart: one operation for each linear layer. */
function compileFused(
  context: LoraContext,
  { path, name, site, keys }: Parameter,
  layers: readonly string[],
): LowRank[] {
  const { collector, sites, settings } = context
  let experts = 0
  while (sites.linear(`${site}.${experts}.${layers[0]}`) !== null) experts++
  const { in: inside, out } = sites.linear(`${site}.0.${layers[0]}`)!
  const { a, b } = factorShapes(context, path, [keys.A, keys.B])
  const rank = settings.rankOf(`${path}.${name}`)
  const ranks = [a[0]! / experts, b[1]! / experts]
  const place = { in: inside, out: out * layers.length }
  checkFactors(`${path}.${name}`, rank, { ranks, in: a[1], out: b[0] }, place)
  const scale = settings.scaleOf(`${path}.${name}`, rank)
  const [sourceA, sourceB] = [collector.peek(keys.A!)!, collector.peek(keys.B!)!]
  return Array.from({ length: experts }, (_, e) => e).flatMap((e) => {
    const rows: Block = {
      view: [experts, rank, inside],
      begin: [e, 0, 0],
      end: [e + 1, rank, inside],
      axes: [0, 1, 2],
    }
    const own = rowsOf(sourceA, e * rank, (e + 1) * rank)
    const first = `${site}.${e}.${layers[0]}`
    // All layers of the parameter read one A.
    const A = collector.add(keys.A!, first, 'lora.A', own, blockTransform(rows, a))
    return layers.map((layer, i): LowRank => {
      const block: Block = {
        view: [place.out, rank, experts],
        begin: [i * out, 0, e],
        end: [(i + 1) * out, rank, e + 1],
        axes: [2, 0, 1],
      }
      const linear = `${site}.${e}.${layer}`
      const tensor = cutBlock(sourceB, block, [out, rank])
      const B = collector.add(keys.B!, linear, 'lora.B', tensor, blockTransform(block, b))
      return { op: 'low_rank', site: linear, in: inside, out, rank, scale, slots: { A, B } }
    })
  })
}

/** The config is evidence here too: every parameter of the base that it names is adapted. @throws ERR_TENSOR_MISSING */
function checkComplete(
  { sites }: LoraContext,
  parameters: readonly Parameter[],
  targets: readonly string[],
): void {
  const missing = (what: string): never => {
    throw new GraftError(
      'ERR_TENSOR_MISSING',
      `target_parameters names ${what}, which the weights do not adapt: the file is incomplete or of another base`,
    )
  }
  for (const target of targets)
    if (!parameters.some(({ path, name }) => `.${path}.${name}`.endsWith(`.${target}`)))
      missing(target)
  const adapted = new Set(parameters.map(({ site, name }) => `${site}.${name}`))
  const modules = new Set(
    sites.modules.flatMap((module) => [module, module.replace(/\.0\.[^.]+$/, '')]),
  )
  for (const module of modules)
    for (const name of parametersOf(sites, module, targets))
      if (!adapted.has(`${sites.resolve(module)}.${name}`)) missing(`${module}.${name}`)
}

/** @throws ERR_METHOD_UNSUPPORTED, ERR_TENSOR_* */
export function compileParameters(
  context: LoraContext,
  modules: ReadonlyMap<string, readonly Wrapper[]>,
  targets: readonly string[],
  modelType: string,
): (LowRank | Magnitude)[] {
  const { sites } = context
  const parameters = [...modules].flatMap(([path, wrappers]) =>
    assign(context, path, wrappers, targets),
  )
  checkComplete(context, parameters, targets)
  const inOut = STACKED_IN_OUT.has(modelType)
  const form = inOut ? formOfFile(context, parameters) : 'straight'
  return parameters.flatMap((parameter): (LowRank | Magnitude)[] => {
    const { path, name, site, keys } = parameter
    const shape = sites.shape(`${site}.${name}`)
    const fused = shape === null ? fusedOf(sites, site, name) : null
    if (fused !== null) return compileFused(context, parameter, fused)
    if (shape?.length === 3 && form !== null) {
      if (!inOut && !KNOWN_OUT_IN.has(modelType))
        unsupported(
          `${path}.${name}: how a base of type ${modelType} stores its experts is not known; merge the adapter into the base`,
        )
      return [compileStack(context, parameter, form, inOut)]
    }
    const linear = sites.linear(site)
    const [rows] = shape ?? []
    // PEFT adds B A to the weight as it lies, which for a transposed one is another update.
    if (
      name === 'weight' &&
      shape?.length === 2 &&
      linear !== null &&
      linear.out === rows &&
      linear.in === shape[1]
    )
      return [compileModule(context, path, keys, `${path}.weight`)]
    return unsupported(
      `target_parameters ${path}.${name} [${shape}] is neither a linear layer's weight nor a stack of experts; adapt those`,
    )
  })
}

/** Bases whose files stack experts as [experts, out, in], as torch's linear layers lie. */
const KNOWN_OUT_IN: ReadonlySet<string> = new Set([
  ...[
    'granitemoe',
    'granitemoeshared',
    'granitemoehybrid',
    'jetmoe',
    'mixtral',
    'qwen2_moe',
    'qwen3_moe',
  ],
])
