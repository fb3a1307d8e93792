import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { LowRank } from '@graft/sdk/format/operations.ts'
import type { TensorSource } from '@graft/sdk/format/tensor-source.ts'
import { cutBlock } from '../blocks.ts'
import { type Collector, type CompiledPart, resolveSite } from '../compiled.ts'
import type { ConfigReader } from '../config-keys.ts'
import { compileExtras } from './extra.ts'
import { readBias } from './lora-settings.ts'
import { groupByModule } from './module-parts.ts'
import { checkTargets, targetCandidates } from './targets.ts'

const PARTS = [
  [/^(.+)\.vera_lambda_b$/, 'b'],
  [/^(.+)\.vera_lambda_d$/, 'd'],
] as const
const SHARED = { A: 'base_model.vera_A', B: 'base_model.vera_B' } as const

const missing = (message: string): never => {
  throw new GraftError('ERR_TENSOR_MISSING', message)
}

/** A [r, widest in], B [widest out, r]. @throws ERR_METHOD_UNSUPPORTED when they are left to a random generator */
function projections(collector: Collector, config: ConfigReader, rank: number) {
  const [A, B] = [collector.peek(SHARED.A), collector.peek(SHARED.B)]
  if (A === null || B === null) {
    if (config.boolean('save_projection', true))
      missing(`${A === null ? SHARED.A : SHARED.B} is absent, although save_projection is true`)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      'save_projection is false: vera_A and vera_B come from a random generator that differs between machines. Load the adapter where it was trained and save them: for shared in (model.base_model.vera_A, model.base_model.vera_B): shared._non_persistent_buffers_set.clear(); then model.peft_config["default"].save_projection = True; model.save_pretrained("out")',
    )
  }
  if (A.shape.length !== 2 || B.shape.length !== 2 || A.shape[0] !== rank || B.shape[1] !== rank)
    throw new GraftError(
      'ERR_TENSOR_SHAPE',
      `${expected('vera_A and vera_B', `[${rank}, in] and [out, ${rank}] as the config says`, [A.shape, B.shape])}; where several adapters shared them, save this one from a model of its own`,
    )
  return { A, B }
}

/** The first columns of A, or rows of B, that a layer of this size reads. */
const part = (source: TensorSource, shape: [number, number]): TensorSource =>
  cutBlock(source, { view: source.shape, begin: [0, 0], end: shape, axes: [0, 1] })

/**
 * VeRA (arXiv 2310.11454): y = W x + b + lambda_b * (B (lambda_d * (A x))). One A and one B serve all layers, each of which
 * reads as much of them as it is wide; the widest give the source's tensors back.
 */
export function compileVera(
  collector: Collector,
  keys: ReadonlyMap<string, string>,
  config: ConfigReader,
  sites: BaseSites,
): CompiledPart {
  const rank = config.integer('r', 1, 256)
  const { A, B } = projections(collector, config, rank)
  const { modules, rest } = groupByModule(keys, PARTS)
  const layers = [...modules].map(([path, parts]) => {
    const linear = sites.linear(resolveSite(sites, path, Object.values(parts)[0]!))
    if (linear === null)
      throw new GraftError(
        'ERR_METHOD_UNSUPPORTED',
        `${path} is not a linear layer, VeRA needs one`,
      )
    return { path, parts, linear }
  })
  const widest = {
    in: Math.max(...layers.map(({ linear }) => linear.in)),
    out: Math.max(...layers.map(({ linear }) => linear.out)),
  }
  if (A.shape[1] !== widest.in || B.shape[0] !== widest.out)
    throw new GraftError(
      'ERR_TENSOR_SHAPE',
      `${expected('vera_A and vera_B', `[${rank},${widest.in}] and [${widest.out},${rank}], as the widest adapted layers`, [A.shape, B.shape])}; the adapter was trained on another base`,
    )
  const shared = new Map<string, string>()
  const sharedSlot = (slot: 'A' | 'B', size: number): string => {
    const name = `vera.${slot}.${size}`
    const known = shared.get(name)
    if (known !== undefined) return known
    const made =
      size === widest[slot === 'A' ? 'in' : 'out']
        ? collector.take(SHARED[slot], '@shared', name)
        : collector.derive(
            '@shared',
            name,
            slot === 'A' ? part(A, [rank, size]) : part(B, [size, rank]),
          )
    shared.set(name, made)
    return made
  }
  const operations = layers.map(({ path, parts, linear }): LowRank => {
    const { path: site, in: inside, out } = linear
    const vector = (key: string | undefined, slot: string, size: number): string => {
      if (key === undefined) return missing(`module ${path} has only one of its two vera_lambda`)
      const { shape } = collector.peek(key)!
      if (shape.join() === `${size}`) return collector.take(key, site, slot)
      throw new GraftError('ERR_TENSOR_SHAPE', expected(`tensor ${key}`, `[${size}]`, shape))
    }
    const slots = {
      A: sharedSlot('A', inside),
      B: sharedSlot('B', out),
      E: vector(parts.d, 'vera.d', rank),
      D: vector(parts.b, 'vera.b', out),
    }
    return { op: 'low_rank', site, in: inside, out, rank, scale: '1', slots }
  })
  checkTargets(config, new Set(modules.keys()), targetCandidates(sites, modules.keys()))
  const extras = compileExtras(collector, sites, config, rest, readBias(config, 'vera_only'))
  return {
    family: 'vera',
    flags: extras.flags,
    operations: [...operations, ...extras.operations],
    training: { r: rank },
  }
}
