import { asLowRank, runsAsLowRank } from '@graft/sdk/format/dense/as-low-rank.ts'
import type { SlotValues } from '@graft/sdk/format/dense/rows.ts'
import type { Dense } from '@graft/sdk/format/operations.ts'
import { slotsOf } from '@graft/sdk/format/slots.ts'
import type { LoadedAdapter } from './engine.ts'

/** A tensor of the adapter by name, of the shape that its operation implies. */
type Take = (name: string, shape: number[]) => Float32Array

/** A dense operation's tensors by name, each checked against the shape of its slot. */
export function denseValues(operation: Dense, take: Take): SlotValues {
  const shapes = new Map(slotsOf(operation).map(({ tensor, shape }) => [tensor, shape]))
  return (tensor) => take(tensor, shapes.get(tensor)!)
}

/**
 * The adapter as a batch runs it: dense operations that have small exact factors are those factors' low rank updates.
 * @throws as `take`
 */
export function withExactFactors(adapter: LoadedAdapter, take: Take): LoadedAdapter {
  if (!adapter.operations.some(hasFactors)) return adapter
  const tensors = new Map(adapter.tensors)
  const operations = adapter.operations.map((operation) => {
    if (!hasFactors(operation)) return operation
    const lowered = asLowRank(operation, denseValues(operation, take))
    for (const [name, tensor] of lowered.tensors) tensors.set(name, tensor)
    return lowered.operation
  })
  return { ...adapter, operations, tensors }
}

const hasFactors = (operation: LoadedAdapter['operations'][number]): operation is Dense =>
  operation.op === 'dense' && runsAsLowRank(operation)
