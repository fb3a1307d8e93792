import type { AdapterBank } from '../bank/adapter-bank.ts'
import type { Variant } from '../graph/variants.ts'
import type { BankTables } from './bank-tables.ts'
import type { Ort } from './ort.ts'
import type { Sequence } from './sequence.ts'

export type Feeds = Record<string, Ort.Tensor>

/** What adapter inputs are made of. */
export interface AdapterRun {
  bank: AdapterBank
  variant: Variant
  /** [B] open sequences, null for a gap that only fills the view. */
  rows: (Sequence | null)[]
  /** T of each row. */
  tokens: number
  /** Fewest rows of an input. */
  least: 0 | 1
  tables: BankTables
}
