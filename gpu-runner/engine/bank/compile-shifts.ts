import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Operation } from '@graft/sdk/format/operations.ts'
import type { Checkpoint } from '../../checkpoint/read-checkpoint.ts'
import { type LinearSite, linearSites } from '../graph/sites.ts'
import type { Take } from './compile-adapter.ts'
import { shiftColumns } from './own-tensors.ts'

/** What the operations of one linear do to its bias. */
interface BiasParts {
  /** Instead of the base's. */
  replaced: Float32Array | null
  /** IA3 multiplies the output, its bias included. */
  factor: Float32Array | null
  /** LoRA's own: scale * Bbias. */
  added: Float32Array | null
}

/**
 * What is added to each linear's output beyond the base's bias b: l * b' - b + s * b_B, [sum of out], with b' the
 * replaced bias. Null where that is nothing at all.
 * @throws ERR_OPERATION_UNSUPPORTED for a bias where the base has none
 */
export function compileShifts(
  operations: Operation[],
  take: Take,
  checkpoint: Checkpoint,
): Float32Array | null {
  const sites = new Map(linearSites(checkpoint.config).map((site) => [site.path, site]))
  const parts = new Map<string, BiasParts>()
  for (const operation of operations) {
    const site = sites.get(operation.site)
    if (site) collect(operation, site, take, parts)
  }
  if (parts.size === 0) return null
  const { first, width } = shiftColumns(checkpoint.config)
  const shifts = new Float32Array(width)
  for (const [path, part] of parts) {
    const { out, bias } = sites.get(path)!
    const base = bias ? checkpoint.f32(`${path}.bias`, [out]) : new Float32Array(out)
    const at = first.get(path)!
    for (let o = 0; o < out; o++) {
      const own = (part.replaced ?? base)[o]! * (part.factor?.[o] ?? 1)
      shifts[at + o] = own - base[o]! + (part.added?.[o] ?? 0)
      if (!Number.isFinite(shifts[at + o]))
        throw new GraftError('ERR_WEIGHTS_NON_FINITE', `${path}: the folded bias overflows f32`)
    }
  }
  return shifts
}

function collect(
  operation: Operation,
  { path, out, bias }: LinearSite,
  take: Take,
  parts: Map<string, BiasParts>,
): void {
  const part = parts.get(path) ?? { replaced: null, factor: null, added: null }
  if (operation.op === 'replace' && operation.param === 'bias') {
    if (!bias)
      throw new GraftError(
        'ERR_OPERATION_UNSUPPORTED',
        `replace of bias at ${path}: the base has no bias there`,
      )
    if (part.replaced)
      throw new GraftError('ERR_OPERATION_UNSUPPORTED', `${path} has two biases of its own`)
    part.replaced = take(operation.slots.value, [out])
  } else if (operation.op === 'low_rank' && operation.slots.Bbias !== undefined) {
    const scale = Number(operation.scale)
    part.added = take(operation.slots.Bbias, [out]).map((value) => value * scale)
  } else if (operation.op === 'scale' && operation.side === 'output' && bias)
    part.factor = take(operation.slots.l, [out])
  else return
  parts.set(path, part)
}
