import { readAll } from './byte-source.ts'
import { deltaNorm } from './delta-norm.ts'
import { fingerprintOf, probesOf } from './fingerprint.ts'
import { toNumbers } from './indices.ts'
import type { Manifest } from './manifest.ts'
import type { Operation, OperationKind } from './operations.ts'
import { slotsOf } from './slots.ts'
import type { TensorSource } from './tensor-source.ts'
import { hasNoEffect } from './zero-effect.ts'

/** One tensor of the author's file and what became of it. */
export interface Match {
  /** Name in the author's file; the canonical one where the adapter keeps no origin. */
  key: string
  tensor: string
  /** Module of the base. */
  site: string
  op: OperationKind
  slot: string
}

export interface SiteProof {
  site: string
  op: OperationKind
  rank: number | null
  scale: string | null
  /** ||dW||_F without the base; null where the base's weights are part of it, and for what is no weight change. */
  norm: number | null
  /** The operation provably changes nothing. */
  zero: boolean
}

/** What an adapter's own bytes prove about it, for people to check before anybody relies on it. */
export interface AdapterProofs {
  matches: Match[]
  sites: SiteProof[]
  fingerprint: string
}

const rankOf = (op: Operation): number | null => ('rank' in op ? op.rank : null)
const scaleOf = (op: Operation): string | null =>
  'scale' in op ? op.scale : op.op === 'bottleneck' ? op.scaling : null

/**
 * The match table, the norm of each site's change, operations without effect and the fingerprint. Tensors are read an
 * operation at a time.
 */
export async function adapterProofs(
  { operations, origin }: Pick<Manifest, 'operations' | 'origin'>,
  tensors: ReadonlyMap<string, TensorSource>,
): Promise<AdapterProofs> {
  const keys = new Map<string, string[]>()
  for (const { key, tensor } of origin?.keyMap ?? [])
    keys.set(tensor, [...(keys.get(tensor) ?? []), key])
  const matches: Match[] = []
  const sites: SiteProof[] = []
  const probes: number[][] = []
  for (const op of operations) {
    const held = new Map<string, Float32Array>()
    for (const { slot, tensor } of slotsOf(op)) {
      for (const key of keys.get(tensor) ?? [tensor])
        matches.push({ key, tensor, site: op.site, op: op.op, slot })
      const { dtype, data } = tensors.get(tensor)!
      held.set(tensor, toNumbers(dtype, await readAll(data)))
    }
    const values = (name: string): Float32Array => held.get(name)!
    sites.push({
      site: op.site,
      op: op.op,
      rank: rankOf(op),
      scale: scaleOf(op),
      norm: deltaNorm(op, values),
      zero: await hasNoEffect(op, async (name) => values(name)),
    })
    probes.push(probesOf(op, values))
  }
  return { matches, sites, fingerprint: fingerprintOf(probes) }
}
