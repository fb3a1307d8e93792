import type { ModelConfig } from '../../checkpoint/model-config.ts'

/** Sub-layers of a block that a bottleneck may stand after, or beside. */
export const PLACEMENTS = ['attention', 'ffn'] as const
export type Placement = (typeof PLACEMENTS)[number]

/** A bottleneck's key in the bank: `model.layers.0:ffn`. */
export const bottleneckKey = (block: string, placement: Placement): string =>
  `${block}:${placement}`

/** Keys of all places of a base, in the order they run. */
export const bottleneckKeys = ({ layers }: ModelConfig): string[] =>
  Array.from({ length: layers }, (_, layer) =>
    PLACEMENTS.map((place) => bottleneckKey(`model.layers.${layer}`, place)),
  ).flat()

/** How a row's bottleneck stands between the sub-layer's output h, the residual stream x and norms of its own. */
export const ORDER_FLAGS = [
  /** Reads x. */
  'reads_stream',
  /** Reads h + x. */
  'reads_sum',
  /** Its residual is h + x. */
  'residual_sum',
  /** x is added at the end. */
  'keeps_stream',
  'norm_before',
  'norm_after',
  /** The norm after stands over the sum with the residual. */
  'norm_inside',
  'gated',
] as const
export type OrderFlag = (typeof ORDER_FLAGS)[number]

/** Of a place where an adapter has none: the block goes on with h + x. */
export const NO_ORDER = Object.fromEntries(
  ORDER_FLAGS.map((flag) => [flag, flag === 'keeps_stream']),
) as Record<OrderFlag, boolean>

/** What a place without a bottleneck, or one without norms and gates, comes to. */
export const isPlain = (order: Record<OrderFlag, boolean>): boolean =>
  order.keeps_stream &&
  !order.residual_sum &&
  !order.norm_before &&
  !order.norm_after &&
  !order.gated

/**
 * Vectors [hidden] of a bottleneck's own norms and gate, side by side in the bank; `absent` is ones at the places that an
 * adapter whose order is not plain leaves alone.
 */
export const OWN_VECTORS = [
  'before.w',
  'before.b',
  'after.w',
  'after.b',
  'gate.w',
  'gate.b',
  'absent',
] as const
export type OwnVector = (typeof OWN_VECTORS)[number]
