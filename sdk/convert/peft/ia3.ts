import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { Scale } from '@graft/sdk/format/operations.ts'
import { type Collector, type CompiledPart, resolveSite } from '../compiled.ts'
import type { ConfigReader } from '../config-keys.ts'
import { compileExtras } from './extra.ts'
import { checkTargets, matchesTargets, targetCandidates } from './targets.ts'

/** IA3: l scales a module's output, or the input of feed-forward modules. Its orientation on disk tells which. */
export function compileIa3(
  collector: Collector,
  keys: ReadonlyMap<string, string>,
  config: ConfigReader,
  sites: BaseSites,
): CompiledPart {
  const feedforward = config.targets('feedforward_modules') ?? []
  const operations: Scale[] = []
  const rest = new Map<string, string>()
  const adapted = new Set<string>()
  for (const [inner, key] of keys) {
    const path = /^(.+)\.ia3_l$/.exec(inner)?.[1]
    if (path === undefined) {
      rest.set(inner, key)
      continue
    }
    const site = resolveSite(sites, path, key)
    const linear = sites.linear(site)
    if (linear === null)
      throw new GraftError('ERR_METHOD_UNSUPPORTED', `${path} is not a linear layer, IA3 needs one`)
    const side = matchesTargets(feedforward, path) ? 'input' : 'output'
    const size = side === 'input' ? linear.in : linear.out
    const want = side === 'input' ? [1, size] : [size, 1]
    const { shape } = collector.peek(key)!
    if (shape.join() !== want.join())
      throw new GraftError(
        'ERR_TENSOR_SHAPE',
        expected(`tensor ${key}`, `[${want}], as ${side} of the base's layer`, shape),
      )
    const l = collector.take(key, site, 'ia3.l', [size])
    operations.push({ op: 'scale', site, side, size, slots: { l } })
    adapted.add(path)
  }
  checkTargets(config, adapted, targetCandidates(sites, adapted))
  const extras = compileExtras(collector, sites, config, rest, 'none')
  return {
    family: 'ia3',
    flags: extras.flags,
    operations: [...operations, ...extras.operations],
    training: {},
  }
}
