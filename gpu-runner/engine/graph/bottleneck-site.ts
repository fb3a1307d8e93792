import { activate, GRAPH_ACTIVATIONS } from './activations.ts'
import {
  bottleneckKey,
  bottleneckKeys,
  ORDER_FLAGS,
  type OrderFlag,
  OWN_VECTORS,
  type OwnVector,
  PLACEMENTS,
  type Placement,
} from './bottleneck-keys.ts'
import type { GraphContext } from './context.ts'
import { ONNX_TYPE } from './onnx-model.ts'
import { timesTransposed } from './times-transposed.ts'

const { FLOAT, INT64, BOOL } = ONNX_TYPE

/**
 * Bottlenecks in any order of norms, gates and residuals, with M rows of the bank over all adapters; plain ones go the
 * cheaper way of bottleneck-pages.ts. They are computed for every token of a run that has any, so that what a row's
 * neighbours use never changes the kernels that compute it.
 *
 *   bottleneck.on whether any row has one; .mask [tokens,M] each one's rows of the bank
 *   bottleneck.constant [1,M] rows whose activation is 1; .is_<activation> [1,M] and .uses_<activation>
 *   bottleneck.<place>.<flag> [tokens,1], see ORDER_FLAGS
 *   bottleneck.own [O,places,vectors*hidden], see OWN_VECTORS, .entries [tokens] each one's; .calls (-1,T), .spread (1,T)
 */
export function bottleneckInputs({ m, checkpoint: { config } }: GraphContext): void {
  const places = bottleneckKeys(config).length
  m.input('bottleneck.on', BOOL, [])
  for (const name of GRAPH_ACTIVATIONS) {
    m.input(`bottleneck.uses_${name}`, BOOL, [])
    m.input(`bottleneck.is_${name}`, BOOL, [1, 'M'])
  }
  m.input('bottleneck.constant', BOOL, [1, 'M'])
  m.input('bottleneck.mask', BOOL, ['tokens', 'M'])
  for (const place of PLACEMENTS)
    for (const flag of ORDER_FLAGS) m.input(`bottleneck.${place}.${flag}`, BOOL, ['tokens', 1])
  m.input('bottleneck.own', FLOAT, ['O', places, OWN_VECTORS.length * config.hidden])
  m.input('bottleneck.entries', INT64, ['tokens'])
  for (const name of ['calls', 'spread']) m.input(`bottleneck.${name}`, INT64, [2])
}

/**
 * What the block adds to its stream after a sub-layer: the output, or what the row's own bottleneck makes of it.
 * @param stream the residual stream x [tokens,hidden]
 * @param output the sub-layer's output h [tokens,hidden]
 */
export function bottleneckSite(
  context: GraphContext,
  block: string,
  place: Placement,
  stream: string,
  output: string,
): string {
  const { m, checkpoint } = context
  const key = bottleneckKey(block, place)
  const index = bottleneckKeys(checkpoint.config).indexOf(key)
  const flag = (name: OrderFlag) => `bottleneck.${place}.${name}`
  const { hidden } = checkpoint.config
  const bank = {
    down: m.input(`${key}.down`, FLOAT, ['M', hidden]),
    downBias: m.input(`${key}.down_bias`, FLOAT, ['M']),
    up: m.input(`${key}.up`, FLOAT, ['M', hidden]),
  }
  const own = (): string => {
    const sum = m.node('Add', [output, stream])
    const z = m.node('Where', [
      flag('reads_stream'),
      stream,
      m.node('Where', [flag('reads_sum'), sum, output]),
    ])
    return ordered(context, flag, bank, index, { x: stream, h: output, sum, z })
  }
  return m.branch('bottleneck.on', own, () => output)
}

interface BankRows {
  down: string
  downBias: string
  up: string
}

/** (U act(D z + d) + u) * scaling of each token's own rows, [tokens,hidden]. */
function update(context: GraphContext, { down, downBias, up }: BankRows, z: string): string {
  const { m, zero } = context
  const one = m.constant('one', FLOAT, [], new Float32Array([1]))
  const reduced = m.node('Add', [timesTransposed(context, z, down), downBias])
  const act = GRAPH_ACTIVATIONS.reduce(
    (rest, name) =>
      m.branch(
        `bottleneck.uses_${name}`,
        () => m.node('Where', [`bottleneck.is_${name}`, activate(m, name, reduced), rest]),
        () => rest,
      ),
    reduced,
  )
  const whole = m.node('Where', ['bottleneck.constant', one, act])
  return m.node('MatMul', [m.node('Where', ['bottleneck.mask', whole, zero]), up])
}

/** What the block adds to its stream x, in the order that the token's flags say; h where they say nothing. */
function ordered(
  context: GraphContext,
  flag: (name: OrderFlag) => string,
  bank: BankRows,
  index: number,
  { x, h, sum, z }: Record<'x' | 'h' | 'sum' | 'z', string>,
): string {
  const { m, checkpoint } = context
  const { hidden } = checkpoint.config
  const table = m.node('Gather', ['bottleneck.own', m.integers([index], true)], { axis: 1 })
  const vectors = m.node('Gather', [table, 'bottleneck.entries'], { axis: 0 })
  const vector = (name: OwnVector) => `${bank.down}.${name}`
  const names = OWN_VECTORS.map(vector)
  m.node('Split', [vectors], { axis: -1, num_outputs: names.length }, names)
  const ones = m.constant('ones', FLOAT, [hidden], new Float32Array(hidden).fill(1))
  const norm = (value: string, name: 'before' | 'after') => {
    const unit = m.node('LayerNormalization', [value, ones], { epsilon: { float: 1e-5 } })
    return m.node('Add', [m.node('Mul', [unit, vector(`${name}.w`)]), vector(`${name}.b`)])
  }
  const read = m.node('Where', [flag('norm_before'), norm(z, 'before'), z])
  const u = update(context, bank, read)
  const terms = m.node('Add', [m.node('Mul', [z, vector('gate.w')]), vector('gate.b')])
  const gates = m.node('Sigmoid', [m.node('ReduceSum', [terms, m.integers([1])], { keepdims: 1 })])
  const mean = m.node(
    'ReduceMean',
    [m.node('Reshape', [gates, 'bottleneck.calls']), m.integers([1])],
    { keepdims: 1 },
  )
  const spread = m.node('Reshape', [
    m.node('Expand', [mean, 'bottleneck.spread']),
    m.integers([-1, 1]),
  ])
  const gated = m.node('Where', [flag('gated'), m.node('Mul', [u, spread]), u])
  const residual = m.node('Where', [flag('residual_sum'), sum, h])
  const inside = m.node('Where', [flag('norm_inside'), m.node('Add', [gated, residual]), gated])
  const normed = m.node('Where', [flag('norm_after'), norm(inside, 'after'), inside])
  const t = m.node('Where', [flag('norm_inside'), normed, m.node('Add', [normed, residual])])
  const added = m.node('Where', [flag('keeps_stream'), t, m.node('Sub', [t, x])])
  const half = m.constant('half', FLOAT, [], new Float32Array([0.5]))
  return m.node('Where', [m.node('Greater', [vector('absent'), half]), h, added])
}
