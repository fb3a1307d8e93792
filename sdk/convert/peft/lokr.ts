import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import {
  assertShape,
  type CompileDense,
  compileDense,
  type DenseModule,
  decimalOf,
  refuseEndings,
} from './dense-modules.ts'
import { byPattern } from './patterns.ts'

type Part = 'w1' | 'w1a' | 'w1b' | 'w2' | 'w2a' | 'w2b'

const CONVOLUTION =
  'is LoKr on a convolution, which is not supported; leave convolutions out of target_modules'

/** LoKr: every module is a Kronecker product, each side whole or of two factors, as the file has it. */
export const compileLokr: CompileDense = (collector, keys, config, sites) => {
  refuseEndings(keys, { '.lokr_t2': CONVOLUTION })
  const r = config.integer('r', 1, 8)
  const alpha = config.number('alpha', 8)
  const rankOf = byPattern(config, 'rank_pattern', r)
  const alphaOf = byPattern(config, 'alpha_pattern', alpha)
  const parts = {
    ...{ '.lokr_w1': 'w1', '.lokr_w1_a': 'w1a', '.lokr_w1_b': 'w1b' },
    ...{ '.lokr_w2': 'w2', '.lokr_w2_a': 'w2a', '.lokr_w2_b': 'w2b' },
  } as const
  const compiled = compileDense([collector, keys, config, sites], parts, (module) => {
    const { path, linear, key } = module
    // Of the whole sides nothing shows the rank, and the scale is alpha over it all the same.
    const rank = rankOf(path)
    const shape1 = sideShape(module, 'w1', rank)
    const shape2 = sideShape(module, 'w2', rank)
    const sizes = [shape1[0]! * shape2[0]!, shape1[1]! * shape2[1]!]
    if (sizes[0] !== linear.out || sizes[1] !== linear.in)
      throw new GraftError(
        'ERR_TENSOR_SHAPE',
        `${expected(path, `${linear.in} -> ${linear.out} as in the base`, `${sizes[1]} -> ${sizes[0]}`)}; the adapter was trained on another base`,
      )
    const take = (part: Part) => ({
      [part]: collector.take(key(part), linear.path, `lokr.${part}`),
    })
    const side = (part: 'w1' | 'w2') =>
      module.has(part) ? take(part) : { ...take(`${part}a`), ...take(`${part}b`) }
    return {
      ...{ op: 'dense', form: 'kronecker', site: linear.path, in: linear.in, out: linear.out },
      scale: decimalOf(config, 'alpha', alphaOf(path) / rank),
      shape1,
      shape2,
      ...(module.has('w1') ? {} : { rank1: rank }),
      ...(module.has('w2') ? {} : { rank2: rank }),
      slots: { ...side('w1'), ...side('w2') },
    }
  })
  return { family: 'lokr', ...compiled, training: { r, alpha } }
}

/** [rows, columns] of a side. @throws ERR_TENSOR_SHAPE, ERR_METHOD_UNSUPPORTED for a convolution's */
function sideShape(module: DenseModule<Part>, side: 'w1' | 'w2', rank: number): number[] {
  if (module.has(side)) {
    const whole = module.shape(side)
    if (whole.length === 2) return whole
    throw new GraftError('ERR_METHOD_UNSUPPORTED', `tensor ${module.key(side)} ${CONVOLUTION}`)
  }
  const [rows = 0] = module.shape(`${side}a`)
  const [, columns = 0] = module.shape(`${side}b`)
  assertShape(module, `${side}a`, [rows, rank], 'of the rank of the config')
  assertShape(module, `${side}b`, [rank, columns], 'of the rank of the config')
  return [rows, columns]
}
