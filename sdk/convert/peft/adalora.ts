import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { LiteralTensor } from '@graft/sdk/format/manifest.ts'
import type { LowRank } from '@graft/sdk/format/operations.ts'
import { type Collector, type CompiledPart, resolveSite } from '../compiled.ts'
import type { ConfigReader } from '../config-keys.ts'
import { compileExtras } from './extra.ts'
import { takeLiteral } from './literals.ts'
import { checkFactors } from './lora-modules.ts'
import { readBias, scaleText } from './lora-settings.ts'
import { groupByModule } from './module-parts.ts'
import { checkTargets, targetCandidates } from './targets.ts'

const PARTS = [
  [/^(.+)\.lora_A$/, 'A'],
  [/^(.+)\.lora_B$/, 'B'],
  [/^(.+)\.lora_E$/, 'E'],
] as const

/** What PEFT adds to the rank before it divides, "1e-5", so that a rank of 0 divides too. */
const RANK_EPSILON = 1e-5

/**
 * Ranks that remain by a module's path: rank_pattern holds, by `<module>.lora_E`, which of init_r triplets were kept,
 * and PEFT saves only those.
 */
function readRanks(config: ConfigReader, initial: number): (path: string) => number {
  const pattern = config.value('rank_pattern')
  const ranks = new Map<string, number>()
  if (pattern !== null && (typeof pattern !== 'object' || Array.isArray(pattern)))
    return config.fail('rank_pattern', 'an object of lists of booleans')
  for (const [name, kept] of Object.entries(pattern ?? {})) {
    const path = /^(.+)\.lora_E$/.exec(name)?.[1]
    if (
      path === undefined ||
      !Array.isArray(kept) ||
      kept.length !== initial ||
      !kept.every((one) => typeof one === 'boolean')
    )
      return config.fail('rank_pattern', `<module>.lora_E: ${initial} booleans, as init_r says`)
    ranks.set(path, kept.filter(Boolean).length)
  }
  return (path) => ranks.get(path) ?? initial
}

/**
 * AdaLoRA (arXiv 2303.10512): y = W x + b + s B (E * (A x)). PEFT divides by the rank that a module began with, also
 * after others were dropped: s = alpha / (init_r + 1e-5); without an alpha, by the rank that is left instead of it.
 */
export async function compileAdaLora(
  collector: Collector,
  keys: ReadonlyMap<string, string>,
  config: ConfigReader,
  sites: BaseSites,
): Promise<CompiledPart & { literals: LiteralTensor[] }> {
  const initial = config.integer('init_r', 1, 12)
  const alpha = config.number('lora_alpha', 8)
  const rankOf = readRanks(config, initial)
  const { modules, rest } = groupByModule(keys, PARTS)
  const operations: LowRank[] = []
  const literals: LiteralTensor[] = []
  for (const [path, parts] of modules) {
    const site = resolveSite(sites, path, Object.values(parts)[0]!)
    const linear = sites.linear(site)
    if (linear === null)
      throw new GraftError(
        'ERR_METHOD_UNSUPPORTED',
        `${path} is not a linear layer, and AdaLoRA of anything else is not supported; leave it out of target_modules`,
      )
    const shape = (part: 'A' | 'B' | 'E'): number[] => {
      const found = collector.peek(parts[part] ?? '')?.shape
      if (found !== undefined) return found
      throw new GraftError('ERR_TENSOR_MISSING', `module ${path} has no lora_${part}`)
    }
    const [a, b, e] = [shape('A'), shape('B'), shape('E')]
    const rank = rankOf(path)
    checkFactors(path, rank, { ranks: [a[0], b[1]], in: a[1], out: b[0] }, linear)
    if (e.join() !== `${rank},1`)
      throw new GraftError('ERR_TENSOR_SHAPE', `${path}: lora_E must be [${rank},1], got [${e}]`)
    if (rank === 0) {
      // Nothing is left of the module's update; its empty tensors are kept for the way back.
      for (const key of Object.values(parts)) literals.push(await takeLiteral(collector, key))
      continue
    }
    const slots = {
      A: collector.take(parts.A!, site, 'lora.A'),
      B: collector.take(parts.B!, site, 'lora.B'),
      E: collector.take(parts.E!, site, 'lora.E', [rank]),
    }
    const scale = scaleText(config, (alpha > 0 ? alpha : rank) / (initial + RANK_EPSILON))
    operations.push({ op: 'low_rank', site, in: linear.in, out: linear.out, rank, scale, slots })
  }
  if (modules.size > 0 && operations.length === 0)
    throw new GraftError(
      'ERR_ZERO_EFFECT',
      `rank_pattern dropped every rank of all ${modules.size} modules; train with a larger target_r`,
    )
  checkTargets(config, new Set(modules.keys()), targetCandidates(sites, modules.keys()))
  const extras = compileExtras(collector, sites, config, rest, readBias(config, 'lora_only'))
  return {
    family: 'adalora',
    flags: extras.flags,
    operations: [...operations, ...extras.operations],
    training: { init_r: initial, lora_alpha: alpha, target_r: config.integer('target_r', 0, 8) },
    literals,
  }
}
