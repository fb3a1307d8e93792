import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { ConfigReader } from '../config-keys.ts'
import {
  type CompileDense,
  compileDense,
  type DenseModule,
  decimalOf,
  refuseEndings,
} from './dense-modules.ts'

const OLD =
  'is of OFT before PEFT 0.16, which PEFT itself no longer reads; load it with PEFT 0.15.2, merge_and_unload() and publish the base, or train again'
const EMBEDDING =
  'rotates an embedding, which is not supported; leave embeddings out of target_modules'

/** What the format takes; the series of a Q for which so many matter does not converge. */
const MAX_TERMS = 64

/** OFT: every module's input is rotated block by block. */
export const compileOft: CompileDense = (collector, keys, config, sites) => {
  refuseEndings(keys, { '.oft_r': OLD, '.oft_embedding_R.weight': EMBEDDING })
  const shared = config.boolean('block_share', false)
  const series = seriesOf(config)
  const constrained = config.boolean('coft', false)
  const eps = constrained ? config.number('eps', 6e-5) : 0
  const parts = { '.oft_R.weight': 'R' } as const
  const compiled = compileDense([collector, keys, config, sites], parts, (module) => {
    const { linear, key, shape } = module
    const blockSize = blockSizeOf(config, module, shared)
    // COFT shortens each block's Q before every use, so what was saved may still be longer.
    const norm = eps / Math.sqrt(shape('R')[0]!)
    return {
      ...{ op: 'dense', form: 'rotation', site: linear.path, in: linear.in, out: linear.out },
      blockSize,
      shared,
      ...(series === null ? {} : { series }),
      ...(constrained ? { maxNorm: decimalOf(config, 'eps', norm) } : {}),
      slots: { Q: collector.take(key('R'), linear.path, 'oft.Q') },
    }
  })
  const flags = [series === null ? 'cayley' : 'cayley_neumann', ...(constrained ? ['coft'] : [])]
  return { family: 'oft', ...compiled, flags: [...flags, ...compiled.flags], training: {} }
}

/**
 * Coefficients of the powers of Q; null for Cayley's map. PEFT sums I + 2 Q + 2 Q^2 + ..., and since 0.18 the last power
 * once, with at least Q^3 where there are three terms. Configs before 0.18 name no version.
 * @throws ERR_CONFIG_INVALID, ERR_METHOD_UNSUPPORTED for builds between the two
 */
function seriesOf(config: ConfigReader): string[] | null {
  if (config.value('use_cayley_neumann') === null)
    return config.fail('use_cayley_neumann', 'present: with and without it R is another rotation')
  if (!config.boolean('use_cayley_neumann', false)) return null
  const terms = config.integer('num_cayley_neumann_terms', 1, 5)
  if (terms > MAX_TERMS) return config.fail('num_cayley_neumann_terms', `at most ${MAX_TERMS}`)
  const first = ['1', '2'].slice(0, Math.min(terms, 2))
  const twos = (count: number): string[] => Array.from({ length: Math.max(0, count) }, () => '2')
  if (isOld(config)) return [...first, ...twos(terms - 2)]
  return terms < 3 ? first : [...first, ...twos(Math.max(3, terms - 1) - 2), '1']
}

function isOld(config: ConfigReader): boolean {
  const version = config.value('peft_version')
  if (version === null || version === '') return true
  const [, major, minor, rest] = /^(\d+)\.(\d+)(.*)$/.exec(String(version)) ?? []
  if (major === undefined) return config.fail('peft_version', 'a version')
  if (
    Number(major) === 0 &&
    (Number(minor) < 18 || (minor === '18' && /^\.0\.?(?:dev|rc)/.test(rest!)))
  )
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `OFT with the Cayley-Neumann series of the development version ${version}: the series changed between 0.17 and 0.18, and nothing tells which one this is; load it with that version, merge_and_unload() and publish the base, or train again`,
    )
  return false
}

/** Size of the blocks, from the number of elements above the diagonal of one. @throws ERR_TENSOR_SHAPE */
function blockSizeOf(config: ConfigReader, module: DenseModule<'R'>, shared: boolean): number {
  const { path, linear } = module
  const [rows = 0, elements = 0] = module.shape('R')
  const size = (1 + Math.sqrt(1 + 8 * elements)) / 2
  const blocks = shared ? 1 : linear.in / size
  const r = config.integer('r', 0, 0)
  const named = config.integer('oft_block_size', 0, 32)
  // A size that does not divide the inputs was replaced by one that does: then the tensors alone tell it.
  const asked = named !== 0 ? named : linear.in / r
  const replaced = !Number.isSafeInteger(asked) || linear.in % asked !== 0
  if (linear.in % size !== 0 || rows !== blocks || (!replaced && size !== asked))
    throw new GraftError(
      'ERR_TENSOR_SHAPE',
      expected(
        `${path}: oft_R`,
        `rows of the triangles of blocks of ${replaced ? 'one size' : asked} that make ${linear.in} inputs${shared ? ', shared' : ''}`,
        module.shape('R'),
      ),
    )
  return size
}
