import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { assertShape, type CompileDense, compileDense } from './dense-modules.ts'

/** BOFT: every module's input goes through levels of rotated blocks, its output is scaled. */
export const compileBoft: CompileDense = (collector, keys, config, sites) => {
  const asked = config.integer('boft_n_butterfly_factor', 1, 1)
  const named = config.integer('boft_block_size', 0, 4)
  const count = config.integer('boft_block_num', 0, 0)
  const parts = { '.boft_R': 'R', '.boft_s': 's' } as const
  const compiled = compileDense([collector, keys, config, sites], parts, (module) => {
    const { path, linear, key, shape } = module
    const [factors = 0, blocks = 0, blockSize = 0] = shape('R')
    const size = named !== 0 ? named : linear.in / count
    assertShape(module, 'R', [factors, linear.in / size, size, size], 'by the base and the config')
    assertShape(module, 's', [linear.out, 1], 'by the base')
    // Without its CUDA kernel PEFT trains one level, whatever the config asks for and goes on saying.
    if (blocks < 1 || (factors !== asked && factors !== 1))
      throw new GraftError(
        'ERR_TENSOR_SHAPE',
        expected(`${path}: boft_R`, `of ${asked} factors as the config says, or 1`, factors),
      )
    return {
      ...{ op: 'dense', form: 'butterfly', site: linear.path, in: linear.in, out: linear.out },
      blockSize,
      factors,
      slots: {
        R: collector.take(key('R'), linear.path, 'boft.R'),
        s: collector.take(key('s'), linear.path, 'boft.s', [linear.out]),
      },
    }
  })
  return { family: 'boft', ...compiled, training: {} }
}
