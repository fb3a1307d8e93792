import {
  assertShape,
  type CompileDense,
  compileDense,
  decimalOf,
  refuseEndings,
} from './dense-modules.ts'
import { byPattern } from './patterns.ts'

const CONVOLUTION =
  'is LoHa on a convolution (FedPara, proposition 3), which is not supported; leave convolutions out of target_modules'

/** LoHa: every module is the elementwise product of two products. */
export const compileLoha: CompileDense = (collector, keys, config, sites) => {
  refuseEndings(keys, { '.hada_t1': CONVOLUTION, '.hada_t2': CONVOLUTION })
  const r = config.integer('r', 1, 8)
  const alpha = config.number('alpha', 8)
  const rankOf = byPattern(config, 'rank_pattern', r)
  const alphaOf = byPattern(config, 'alpha_pattern', alpha)
  const parts = {
    ...{ '.hada_w1_a': 'w1a', '.hada_w1_b': 'w1b' },
    ...{ '.hada_w2_a': 'w2a', '.hada_w2_b': 'w2b' },
  } as const
  const compiled = compileDense([collector, keys, config, sites], parts, (module) => {
    const { path, linear, key } = module
    const rank = rankOf(path)
    const why = 'by the base and the rank of the config'
    for (const part of ['w1a', 'w2a'] as const) assertShape(module, part, [linear.out, rank], why)
    for (const part of ['w1b', 'w2b'] as const) assertShape(module, part, [rank, linear.in], why)
    const take = (part: 'w1a' | 'w1b' | 'w2a' | 'w2b'): string =>
      collector.take(key(part), linear.path, `loha.${part}`)
    return {
      ...{ op: 'dense', form: 'hadamard', site: linear.path, in: linear.in, out: linear.out },
      rank,
      scale: decimalOf(config, 'alpha', alphaOf(path) / rank),
      slots: { w1a: take('w1a'), w1b: take('w1b'), w2a: take('w2a'), w2b: take('w2b') },
    }
  })
  return { family: 'loha', ...compiled, training: { r, alpha } }
}
