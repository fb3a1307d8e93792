import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Bottleneck } from '@graft/sdk/format/operations.ts'
import type { ModelConfig } from '../../checkpoint/model-config.ts'
import { transpose } from '../graph/linear-weights.ts'
import { bottleneckKey, type Placement } from '../graph/sites.ts'
import type { Take } from './compile-adapter.ts'
import type { CompiledAdapter } from './compiled-adapter.ts'

const unsupported = (operation: Bottleneck, what: string): GraftError =>
  new GraftError(
    'ERR_OPERATION_UNSUPPORTED',
    `bottleneck at ${operation.site}: ${what} is not supported by this engine`,
  )

/**
 * AdapterHub's bottleneck in a Llama block, which has no LayerNorm after its sub-layers: with the sub-layer's output o
 * and the residual h, the block goes on with h + o + U act(D x + d) + u, where x is o, or h + o when original_ln_before.
 */
export function addBottleneck(
  compiled: CompiledAdapter,
  operation: Bottleneck,
  take: Take,
  config: ModelConfig,
): void {
  const { hidden, reduced, slots, placement } = operation
  if (placement !== 'attention' && placement !== 'ffn') throw unsupported(operation, placement)
  if (hidden !== config.hidden)
    throw unsupported(operation, `hidden size ${hidden} on a base of ${config.hidden}`)
  if (slots.lnBeforeW || slots.lnAfterW) throw unsupported(operation, 'a LayerNorm of its own')
  if (slots.gateW) throw unsupported(operation, 'gating')
  // Any other order adds the residual twice or never; see AdapterHub's pre_forward and post_forward without a LayerNorm.
  if (operation.residual !== 'before_ln' || !operation.originalLnAfter)
    throw unsupported(
      operation,
      `residual ${operation.residual} with original_ln_after ${operation.originalLnAfter}`,
    )

  compiled.bottleneck ??= {
    rows: 0,
    activation: operation.activation,
    afterAdd: { attention: false, ffn: false },
    sites: new Map(),
  }
  const { bottleneck } = compiled
  if (bottleneck.activation !== operation.activation)
    throw unsupported(operation, 'a second activation')
  const place: Placement = placement
  const siblings = [...bottleneck.sites.keys()].some((key) => key.endsWith(`:${place}`))
  if (siblings && bottleneck.afterAdd[place] !== operation.originalLnBefore)
    throw unsupported(operation, 'another original_ln_before than its siblings')
  bottleneck.afterAdd[place] = operation.originalLnBefore

  const scale = scaling(operation, take)
  const up = transpose(take(slots.upW, [hidden, reduced]), hidden, reduced)
  const upBias = slots.upB ? take(slots.upB, [hidden]).slice() : new Float32Array(hidden)
  for (let h = 0; h < hidden; h++) {
    upBias[h]! *= scale(h)
    for (let r = 0; r < reduced; r++) up[r * hidden + h]! *= scale(h)
  }
  bottleneck.sites.set(bottleneckKey(operation.site, place), {
    reduced,
    down: take(slots.downW, [reduced, hidden]),
    downBias: slots.downB ? take(slots.downB, [reduced]) : new Float32Array(reduced),
    up,
    upBias,
  })
  bottleneck.rows = Math.max(bottleneck.rows, reduced)
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
