import type { RowRange, RowTables } from '../bank/writes.ts'
import type { BankTables } from './bank-tables.ts'
import { type DeviceMemory, viewOf } from './device-memory.ts'
import type { Ort } from './ort.ts'

/** Tables grow by half as much again, but never by more than this ahead of need. */
const AHEAD_BYTES = 64 * 2 ** 20

interface Mirror {
  /** Rows that there is memory for. */
  rows: number
  /** Writes up to this time are on the device. */
  time: number
  tensors: Map<string, Ort.Tensor>
}

/** The bank's tables once more in device memory: only rows that were written since the last run cross to it. */
export class DeviceTables implements BankTables {
  readonly fromStart = true
  readonly #memory: DeviceMemory
  readonly #mirrors = new Map<RowTables, Mirror>()

  constructor(memory: DeviceMemory) {
    this.#memory = memory
  }

  async follow(all: RowTables[]): Promise<void> {
    for (const tables of all) {
      const mirror = this.#mirrors.get(tables) ?? { rows: 0, time: 0, tensors: new Map() }
      this.#mirrors.set(tables, mirror)
      // An input has one row at least.
      await this.#grow(tables, mirror, Math.max(1, tables.used))
      const { now } = tables.writes
      if (mirror.time === now) continue
      const rows = tables.writes.since(mirror.time, tables.used)
      await this.#memory.write(mirror.tensors, rows, (key) => gathered(tables, key, rows))
      mirror.time = now
    }
  }

  /** range.first is 0: memory on the device can be named from its start alone. */
  rows(tables: RowTables, key: string, _range: RowRange, dims: number[]): Ort.Tensor {
    return viewOf(this.#mirrors.get(tables)!.tensors.get(key)!, dims)
  }

  dispose(): void {
    for (const { tensors } of this.#mirrors.values())
      for (const tensor of tensors.values()) tensor.dispose()
    this.#mirrors.clear()
  }

  async #grow(tables: RowTables, mirror: Mirror, rows: number): Promise<void> {
    if (rows <= mirror.rows) return
    const widths = [...tables.keys()].map((key) => tables.width(key))
    const rowBytes = 4 * widths.reduce((sum, width) => sum + width, 0)
    const ahead = Math.min(Math.ceil(mirror.rows / 2), Math.floor(AHEAD_BYTES / rowBytes))
    const capacity = Math.max(rows, mirror.rows + ahead)
    for (const key of tables.keys()) {
      const old = mirror.tensors.get(key)
      mirror.tensors.set(
        key,
        old
          ? await this.#memory.extend(old, capacity)
          : await this.#memory.zeros(capacity, tables.width(key)),
      )
    }
    mirror.rows = capacity
  }
}

/** [rows, width] */
function gathered(tables: RowTables, key: string, rows: number[]): Float32Array {
  const width = tables.width(key)
  const first = rows[0]!
  if (rows.every((row, i) => row === first + i))
    return tables.rows(key, { first, count: rows.length })
  const values = new Float32Array(rows.length * width)
  for (const [i, row] of rows.entries())
    values.set(tables.rows(key, { first: row, count: 1 }), i * width)
  return values
}
