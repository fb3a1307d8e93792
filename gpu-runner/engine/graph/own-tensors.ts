import type { GraphContext } from './context.ts'
import type { LinearGroup } from './linear-groups.ts'
import { normSites } from './norm-sites.ts'
import { ONNX_TYPE } from './onnx-model.ts'

const { FLOAT, INT64, BOOL } = ONNX_TYPE

/**
 * Whole tensors that a row brings instead of the base's. For norms and shifts: n tokens of rows that have some, and the
 * entry of each in the bank's N; other tokens are not touched.
 *
 *   own.norms.on, .tokens [n,1], .entries [n], own.norms [N, norms*hidden] weights of all norms
 *   own.shifts.on, .tokens, .entries, own.shifts [N, sum of out] what is added beyond the base's biases
 *   own.linears.on, .tokens [A,j] tokens of each adapter that replaces linears, padded with its first
 *   <path>.own_on whether any of them replaces this one; <path>.own [a,in,out] matrices of a linear, <path>.own_adapters [a] their rows of own.linears.tokens
 */
export function ownInputs({ m, checkpoint: { config }, groups }: GraphContext): void {
  const widths = {
    norms: normSites(config).length * config.hidden,
    shifts: groups.reduce((sum, { out }) => sum + out, 0),
  }
  for (const [kind, width] of Object.entries(widths)) {
    m.input(`own.${kind}.on`, BOOL, [])
    m.input(`own.${kind}.tokens`, INT64, ['n', 1])
    m.input(`own.${kind}.entries`, INT64, ['n'])
    m.input(`own.${kind}`, FLOAT, ['N', width])
  }
  m.input('own.linears.on', BOOL, [])
  m.input('own.linears.tokens', INT64, ['A', 'j'])
  for (const { in: inner, parts } of groups)
    for (const { path, out } of parts) {
      m.input(`${path}.own_on`, BOOL, [])
      m.input(`${path}.own`, FLOAT, ['a', inner, out])
      m.input(`${path}.own_adapters`, INT64, ['a'])
    }
}

/** Columns [first, first + width) of each token's entry, [n,width]. */
function vectors({ m }: GraphContext, kind: 'norms' | 'shifts', first: number, width: number) {
  const columns = m.node('Slice', [
    `own.${kind}`,
    m.integers([first]),
    m.integers([first + width]),
    m.integers([1]),
  ])
  return m.node('Gather', [columns, `own.${kind}.entries`], { axis: 0 })
}

/**
 * Tokens with norms of their own are normalised by those.
 * @param sum what the norm reads, [tokens,hidden]
 * @param normal what the base's norm makes of it
 */
export function ownNorm(context: GraphContext, site: string, sum: string, normal: string): string {
  const { m, checkpoint } = context
  const { hidden, normEpsilon } = checkpoint.config
  const index = normSites(checkpoint.config).indexOf(site)
  return m.branch(
    'own.norms.on',
    () => {
      const ones = m.constant('ones', FLOAT, [hidden], new Float32Array(hidden).fill(1))
      const read = m.node('GatherND', [sum, 'own.norms.tokens'])
      const unit = m.node('SimplifiedLayerNormalization', [read, ones], {
        axis: -1,
        epsilon: { float: normEpsilon },
      })
      const own = m.node('Mul', [unit, vectors(context, 'norms', index * hidden, hidden)])
      return m.node('ScatterND', [normal, 'own.norms.tokens', own])
    },
    () => normal,
  )
}

/** Adds what tokens have beyond the base's bias. @param y [tokens, out] of the group */
export function ownShift(context: GraphContext, group: LinearGroup, y: string): string {
  const { m, groups } = context
  const before = groups.slice(0, groups.indexOf(group)).reduce((sum, { out }) => sum + out, 0)
  return m.branch(
    'own.shifts.on',
    () => {
      const own = vectors(context, 'shifts', before, group.out)
      return m.node('ScatterND', [y, 'own.shifts.tokens', own], { reduction: 'add' })
    },
    () => y,
  )
}

/**
 * Tokens whose adapter replaces a linear of the group take that matrix's output.
 * @param x [tokens,in], for each part
 * @param y [tokens,out] of the base
 */
export function ownLinears(
  { m }: GraphContext,
  { key, parts }: LinearGroup,
  x: string[],
  y: string,
): string {
  const replaced = (path: string, input: string, output: string): string => {
    return m.branch(
      `${path}.own_on`,
      () => own(path, input, output),
      () => output,
    )
  }
  const own = (path: string, input: string, output: string): string => {
    const tokens = m.node('Gather', ['own.linears.tokens', `${path}.own_adapters`], { axis: 0 })
    const read = m.node('Gather', [input, tokens], { axis: 0 })
    const y_ = m.node('MatMul', [read, `${path}.own`])
    return m.node('ScatterND', [output, m.node('Unsqueeze', [tokens, m.integers([-1])]), y_])
  }
  return m.branch(
    'own.linears.on',
    () => {
      if (parts.length === 1) return replaced(parts[0]!.path, x[0]!, y)
      const sizes = m.integers(parts.map(({ out }) => out))
      const names = parts.map((_, i) => `${key}.base_${i}`)
      m.node('Split', [y, sizes], { axis: -1 }, names)
      const own = parts.map(({ path }, i) => replaced(path, x[i]!, names[i]!))
      return m.node('Concat', own, { axis: -1 })
    },
    () => y,
  )
}
