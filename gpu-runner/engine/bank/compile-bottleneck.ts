import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Bottleneck } from '@graft/sdk/format/operations.ts'
import type { ModelConfig } from '../../checkpoint/model-config.ts'
import {
  bottleneckKey,
  bottleneckKeys,
  ORDER_FLAGS,
  type OrderFlag,
  OWN_VECTORS,
  type OwnVector,
  type Placement,
} from '../graph/bottleneck-keys.ts'
import { transpose } from '../graph/linear-weights.ts'
import type { Take } from './compile-adapter.ts'
import type { CompiledAdapter } from './compiled-adapter.ts'

const refused = (operation: Bottleneck, what: string): GraftError =>
  new GraftError('ERR_OPERATION_UNSUPPORTED', `bottleneck at ${operation.site}: ${what}`)

/** One AdapterHub bottleneck of a block, as rows of the bank and flags of the row that uses it. */
export function addBottleneck(
  compiled: CompiledAdapter,
  operation: Bottleneck,
  take: Take,
  config: ModelConfig,
): void {
  const { hidden, reduced, site } = operation
  const place: Placement = operation.placement.endsWith('attention') ? 'attention' : 'ffn'
  const keys = bottleneckKeys(config)
  const key = bottleneckKey(site, place)
  if (!keys.includes(key)) throw refused(operation, 'the base has no such block')
  if (hidden !== config.hidden)
    throw refused(operation, `hidden size ${hidden} on a base of ${config.hidden}`)
  if (operation.residual === 'post_add')
    throw refused(operation, 'residual post_add needs a LayerNorm that this block has not')

  compiled.bottleneck ??= {
    rows: 0,
    activation: operation.activation,
    orders: {},
    sites: new Map(),
    own: allAbsent(keys.length, hidden),
  }
  const { bottleneck } = compiled
  if (bottleneck.activation !== operation.activation)
    throw refused(operation, 'a second activation')
  if (bottleneck.sites.has(key)) throw refused(operation, `a second one after the ${place} there`)
  const order = orderOf(operation)
  const known = bottleneck.orders[place]
  if (known && ORDER_FLAGS.some((flag) => known[flag] !== order[flag]))
    throw refused(operation, 'another order of norms and residuals than its siblings')
  bottleneck.orders[place] = order

  bottleneck.sites.set(key, rowsOf(operation, take))
  bottleneck.rows = Math.max(bottleneck.rows, reduced + 1)
  const at = (name: OwnVector) =>
    (keys.indexOf(key) * OWN_VECTORS.length + OWN_VECTORS.indexOf(name)) * hidden
  for (const [name, values] of ownVectors(operation, take)) bottleneck.own.set(values, at(name))
}

/** [places, vectors, hidden] of an adapter that stands nowhere. */
function allAbsent(places: number, hidden: number): Float32Array {
  const own = new Float32Array(places * OWN_VECTORS.length * hidden)
  for (let place = 0; place < places; place++) {
    const at = (place * OWN_VECTORS.length + OWN_VECTORS.indexOf('absent')) * hidden
    own.fill(1, at, at + hidden)
  }
  return own
}

function ownVectors({ hidden, slots }: Bottleneck, take: Take): [OwnVector, Float32Array][] {
  const vector = (name: OwnVector, tensor: string | undefined): [OwnVector, Float32Array][] =>
    tensor === undefined ? [] : [[name, take(tensor, name === 'gate.w' ? [1, hidden] : [hidden])]]
  // The graph sums z * gate.w + gate.b over the hidden units, which adds the bias up again.
  const gateBias = slots.gateB ? take(slots.gateB, [1])[0]! : 0
  return [
    ...vector('before.w', slots.lnBeforeW),
    ...vector('before.b', slots.lnBeforeB),
    ...vector('after.w', slots.lnAfterW),
    ...vector('after.b', slots.lnAfterB),
    ...vector('gate.w', slots.gateW),
    ['gate.b', new Float32Array(hidden).fill(gateBias / hidden)],
    ['absent', new Float32Array(hidden)],
  ]
}

/**
 * Rows of the bank with the scaling folded into U: down and up [1 + reduced, hidden]. Row 0 is the bias of U, whose
 * activation is always 1.
 */
function rowsOf(operation: Bottleneck, take: Take) {
  const { hidden, reduced, slots } = operation
  const scale = scaling(operation, take)
  const down = new Float32Array((1 + reduced) * hidden)
  down.set(take(slots.downW, [reduced, hidden]), hidden)
  const downBias = new Float32Array(1 + reduced)
  if (slots.downB) downBias.set(take(slots.downB, [reduced]), 1)
  const up = new Float32Array((1 + reduced) * hidden)
  if (slots.upB) up.set(take(slots.upB, [hidden]))
  up.set(transpose(take(slots.upW, [hidden, reduced]), hidden, reduced), hidden)
  for (let i = 0; i < up.length; i++) up[i]! *= scale(i % hidden)
  return { down, downBias, up }
}

/**
 * What AdapterHub's pre_forward and post_forward come to in a block without a LayerNorm of its own: the block goes on with
 * t + x, or t alone, where t = N(u) + r or N(u + r). Without N only the sum counts, so that most orders are one.
 */
function orderOf({ placement, slots, ...operation }: Bottleneck): Record<OrderFlag, boolean> {
  const parallel = placement.startsWith('parallel_')
  const normAfter = slots.lnAfterW !== undefined
  const residualSum = !parallel && operation.originalLnBefore && operation.residual === 'after_ln'
  const keepsStream = operation.originalLnAfter
  // r = h + x and no x after it is r = h with x after it.
  const swapped = !normAfter && residualSum && !keepsStream
  return {
    reads_stream: parallel,
    reads_sum: !parallel && operation.originalLnBefore,
    residual_sum: residualSum && !swapped,
    keeps_stream: keepsStream || swapped,
    norm_before: slots.lnBeforeW !== undefined,
    norm_after: normAfter,
    norm_inside: normAfter && !parallel && operation.adapterResidualBeforeLn,
    gated: slots.gateW !== undefined,
  }
}

/** The factor of hidden unit h. */
function scaling(operation: Bottleneck, take: Take): (h: number) => number {
  if (operation.scaling !== 'learned' && operation.scaling !== 'channel') {
    const factor = Number(operation.scaling)
    return () => factor
  }
  const values = take(operation.slots.scaling!, [
    operation.scaling === 'learned' ? 1 : operation.hidden,
  ])
  return (h) => values[operation.scaling === 'learned' ? 0 : h]!
}
