import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { LowRank, Magnitude } from '@graft/sdk/format/operations.ts'
import { resolveSite } from '../compiled.ts'
import type { AdaptedParameter, Wrapper } from './adapted-parameter.ts'
import { compileFused, fusedLayers } from './fused-experts.ts'
import { compileModule, type LoraContext } from './lora-modules.ts'
import { compileStacks } from './stacked-experts.ts'

/** In which order the modules of transformers register them. */
const REGISTERED = ['gate_up_proj', 'gate_up_proj_bias', 'down_proj', 'down_proj_bias']

/** Bases whose linear layers lie transposed in their files. */
const CONV1D: ReadonlySet<string> = new Set(['gpt2', 'openai-gpt'])

const unsupported = (message: string): never => {
  throw new GraftError('ERR_METHOD_UNSUPPORTED', message)
}

/** Parameters of a module of the base that target_parameters name, as PEFT matches them: whole, or after a dot. */
export function parametersOf(sites: BaseSites, path: string, targets: readonly string[]): string[] {
  const site = sites.resolve(path)
  const names = targets
    .map((target) => ({ target, name: target.slice(target.lastIndexOf('.') + 1) }))
    .filter(({ target, name }) => `.${path}.${name}`.endsWith(`.${target}`))
    .map(({ name }) => name)
    .filter(
      (name) =>
        sites.shape(`${site}.${name}`) !== null || fusedLayers(sites, `${site}`, name) !== null,
    )
  return [...new Set(names)]
}

/** Which wrapper adapts which parameter. @throws ERR_METHOD_UNSUPPORTED, ERR_TENSOR_MISSING, ERR_TENSOR_UNMATCHED */
function assign(
  { sites }: LoraContext,
  path: string,
  wrappers: readonly Wrapper[],
  targets: readonly string[],
): AdaptedParameter[] {
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

/** The config is evidence here too: every parameter of the base that it names is adapted. @throws ERR_TENSOR_MISSING */
function checkComplete(
  { sites }: LoraContext,
  parameters: readonly AdaptedParameter[],
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
  const kinds = parameters.map((parameter) => ({
    parameter,
    kind: kindOf(sites, parameter, modelType),
  }))
  const stacks = kinds.flatMap(({ parameter, kind }) => (kind === 'stack' ? [parameter] : []))
  const others = kinds.flatMap(({ parameter, kind }): (LowRank | Magnitude)[] => {
    const { path, name, site, keys } = parameter
    if (kind === 'linear') return [compileModule(context, path, keys, `${path}.weight`)]
    return kind === 'fused' ? compileFused(context, parameter, fusedLayers(sites, site, name)!) : []
  })
  return [...compileStacks(context, stacks, modelType), ...others]
}

/** @throws ERR_METHOD_UNSUPPORTED for what is no matrix */
function kindOf(
  sites: BaseSites,
  { path, name, site }: AdaptedParameter,
  modelType: string,
): 'stack' | 'linear' | 'fused' {
  const shape = sites.shape(`${site}.${name}`)
  if (shape === null) return 'fused'
  if (shape.length === 3) return 'stack'
  const linear = sites.linear(site)
  // PEFT adds B A to the weight as it lies, which for a transposed one is another update.
  const lies = linear !== null && !CONV1D.has(modelType) && shape.length === 2
  if (name === 'weight' && lies) return 'linear'
  return unsupported(
    `target_parameters ${path}.${name} [${shape}] is neither a linear layer's weight nor a stack of experts; adapt those`,
  )
}
