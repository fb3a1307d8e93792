import type { ModelConfig } from '../../checkpoint/model-config.ts'
import { normSites } from '../graph/norm-sites.ts'
import { linearSites } from '../graph/sites.ts'
import type { Term } from './combination.ts'
import { type OwnTensors, shiftColumns } from './own-tensors.ts'
import { RowRegion } from './row-region.ts'
import { VectorTable } from './vector-table.ts'

/** Entries of one open sequence in the tables; 0: it has none. */
export interface OwnEntries {
  norms: number
  shifts: number
}

/** Own tensors of the active adapters: see graph/own-*.ts for how a step reads them. */
export class OwnBank {
  /** [entries, norms * hidden] */
  readonly norms: VectorTable
  /** [entries, sum of out] */
  readonly shifts: VectorTable
  /** By linear: one row [in * out] for each active adapter that replaces it. */
  readonly linears: ReadonlyMap<string, RowRegion>
  /** Rows of the head, [rows, hidden]. */
  readonly headRows: RowRegion

  constructor(config: ModelConfig) {
    const norms = normSites(config).length * config.hidden
    this.norms = new VectorTable([{ key: 'own.norms', width: norms, neutral: 1 }])
    const shifts = shiftColumns(config).width
    this.shifts = new VectorTable([{ key: 'own.shifts', width: shifts, neutral: 0 }])
    this.linears = new Map(
      linearSites(config).map(({ path, in: inner, out }) => [
        path,
        new RowRegion([[`${path}.own`, inner * out]], 1),
      ]),
    )
    this.headRows = new RowRegion([['lm_head.rows', config.hidden]], 1)
  }

  activate(owner: string, { linears, headRows }: OwnTensors): void {
    for (const [path, matrix] of linears) this.linears.get(path)!.add(owner, 1, () => matrix)
    if (headRows) this.headRows.add(owner, headRows.ids.length, () => headRows.values)
  }

  deactivate(owner: string, { linears, headRows }: OwnTensors): void {
    for (const path of linears.keys()) this.linears.get(path)!.remove(owner)
    if (headRows) this.headRows.remove(owner)
  }

  /** Norms come from an adapter alone; shifts are deltas and add up. */
  bind(terms: Term[]): OwnEntries {
    const norms = terms[0]?.adapter.own.norms
    const shifts = sumShifts(terms)
    return {
      norms: norms ? this.norms.add(() => norms) : 0,
      shifts: shifts ? this.shifts.add(() => shifts) : 0,
    }
  }

  unbind({ norms, shifts }: OwnEntries): void {
    if (norms !== 0) this.norms.remove(norms)
    if (shifts !== 0) this.shifts.remove(shifts)
  }
}

function sumShifts(terms: Term[]): Float32Array | null {
  let sum: Float32Array | null = null
  for (const { adapter, weight } of terms) {
    const { shifts } = adapter.own
    if (!shifts) continue
    sum ??= new Float32Array(shifts.length)
    for (let i = 0; i < sum.length; i++) sum[i]! += weight * shifts[i]!
  }
  return sum
}
