import {
  encodeFp16,
  encodeInt8,
  type KvPrecision,
  type KvView,
  kvValues,
  rowParts,
} from './kv-format.ts'

export interface KvShape {
  layers: number
  kvHeads: number
  headDim: number
}

export type KvKind = 'k' | 'v'

/** One part of the rows of one layer's K or V: [seats, kvHeads, capacity, rowBytes]. */
interface Lane {
  rowBytes: number
  /** Resizable: it grows in place, and what is cut off goes back to the system. */
  memory: ArrayBuffer
  bytes: Uint8Array
  /** The same memory as numbers; both follow its length. */
  numbers: Float32Array | Float16Array | Int8Array
}

function laneOf(precision: KvPrecision, part: number, rowBytes: number, mostRows: number): Lane {
  const memory = new ArrayBuffer(0, { maxByteLength: mostRows * rowBytes })
  const Numbers =
    part === 1 || precision === 'fp32'
      ? Float32Array
      : precision === 'fp16'
        ? Float16Array
        : Int8Array
  return { rowBytes, memory, bytes: new Uint8Array(memory), numbers: new Numbers(memory) }
}

/** Bytes of one seat over all layers. */
export const seatBytes = (shape: KvShape, precision: KvPrecision, capacity: number): number =>
  2 *
  shape.layers *
  shape.kvHeads *
  capacity *
  rowParts(precision, shape.headDim).reduce((sum, bytes) => sum + bytes, 0)

/**
 * Seats of one capacity. Of each layer they stand beside each other, so that a run over neighbouring seats reads its
 * past as one view. Memory that was never written since it was grown is zero.
 */
export class KvGroup {
  readonly capacity: number
  readonly #shape: KvShape
  readonly #precision: KvPrecision
  /** By layer: K, then V; of each the values, then the scales where there are any. */
  readonly #lanes: Lane[]
  readonly #parts: number
  /** By seat: the slot that sits there. */
  readonly #slots: (number | null)[] = []

  /** @param mostSeats address space is set aside for as many; memory is taken as seats are */
  constructor(shape: KvShape, precision: KvPrecision, capacity: number, mostSeats: number) {
    this.#shape = shape
    this.#precision = precision
    this.capacity = capacity
    const parts = rowParts(precision, shape.headDim)
    this.#parts = parts.length
    this.#lanes = Array.from({ length: 2 * shape.layers }, () => parts).flatMap((sizes) =>
      sizes.map((rowBytes, part) =>
        laneOf(precision, part, rowBytes, mostSeats * shape.kvHeads * capacity),
      ),
    )
  }

  /** Seats that memory is held for. */
  get seats(): number {
    return this.#slots.length
  }

  get taken(): number {
    return this.#slots.reduce<number>((count, slot) => count + (slot === null ? 0 : 1), 0)
  }

  slotAt(seat: number): number | null {
    return this.#slots[seat] ?? null
  }

  /** The lowest free seat; null when all are taken. Low seats first: sequences stay neighbours. */
  freeSeat(): number | null {
    const seat = this.#slots.indexOf(null)
    return seat < 0 ? null : seat
  }

  /** The last seat that is taken; -1 when none is. */
  get lastTaken(): number {
    return this.#slots.findLastIndex((slot) => slot !== null)
  }

  resize(seats: number): void {
    for (const lane of this.#lanes)
      lane.memory.resize(seats * this.#shape.kvHeads * this.capacity * lane.rowBytes)
    while (this.#slots.length < seats) this.#slots.push(null)
    this.#slots.length = seats
  }

  take(seat: number, slot: number): void {
    this.#slots[seat] = slot
  }

  /** @param wipe zeroes the seat: masked positions weigh 0, and 0 * NaN would still be NaN for its next owner */
  leave(seat: number, wipe: boolean): void {
    this.#slots[seat] = null
    if (!wipe) return
    for (const { bytes, rowBytes } of this.#lanes) {
      const size = this.#shape.kvHeads * this.capacity * rowBytes
      bytes.fill(0, seat * size, (seat + 1) * size)
    }
  }

  /** Values [count, kvHeads, 1, capacity, headDim] of neighbouring seats, and scales [count, kvHeads, 1, 1, capacity]. */
  view(kind: KvKind, layer: number, seat: number, count: number): KvView {
    const { kvHeads, headDim } = this.#shape
    const rows = kvHeads * this.capacity
    const first = this.#first(kind, layer)
    const { memory, rowBytes } = this.#lanes[first]!
    return {
      values: kvValues(this.#precision, memory, seat * rows * rowBytes, count * rows * headDim),
      scales:
        this.#parts === 1
          ? null
          : new Float32Array(this.#lanes[first + 1]!.memory, seat * rows * 4, count * rows),
    }
  }

  /** Writes f32 rows [kvHeads, tokens, headDim], which begin at element `from` of `source`, at `position` of a seat. */
  append(
    kind: KvKind,
    layer: number,
    seat: number,
    position: number,
    tokens: number,
    source: Float32Array,
    from: number,
  ): void {
    const { kvHeads, headDim } = this.#shape
    const first = this.#first(kind, layer)
    const { numbers } = this.#lanes[first]!
    const size = tokens * headDim
    for (let head = 0; head < kvHeads; head++) {
      const rows = source.subarray(from + head * size, from + (head + 1) * size)
      const row = (seat * kvHeads + head) * this.capacity + position
      if (numbers instanceof Float32Array) numbers.set(rows, row * headDim)
      else if (numbers instanceof Float16Array) encodeFp16(numbers, row * headDim, rows)
      else encodeInt8(numbers, this.#lanes[first + 1]!.numbers as Float32Array, row, rows, headDim)
    }
  }

  /** Positions [0, count) of a seat, as they are held, into a seat of another group or of this one. */
  copy(seat: number, count: number, target: KvGroup, targetSeat: number): void {
    const { kvHeads } = this.#shape
    for (const [i, { bytes, rowBytes }] of this.#lanes.entries())
      for (let head = 0; head < kvHeads; head++) {
        const begin = (seat * kvHeads + head) * this.capacity * rowBytes
        const rows = bytes.subarray(begin, begin + count * rowBytes)
        target.#lanes[i]!.bytes.set(
          rows,
          (targetSeat * kvHeads + head) * target.capacity * rowBytes,
        )
      }
  }

  /** Positions [begin, end) of a seat as one piece of memory, as they are held. */
  read(seat: number, begin: number, end: number): Uint8Array {
    const piece = new Uint8Array(seatBytes(this.#shape, this.#precision, end - begin))
    this.#pieces(seat, begin, end, (rows, at) => piece.set(rows, at))
    return piece
  }

  /** Puts back at `begin` what `read` gave. */
  write(seat: number, begin: number, end: number, piece: Uint8Array): void {
    this.#pieces(seat, begin, end, (rows, at) => rows.set(piece.subarray(at, at + rows.length)))
  }

  #pieces(
    seat: number,
    begin: number,
    end: number,
    visit: (rows: Uint8Array, at: number) => void,
  ): void {
    const { kvHeads } = this.#shape
    let at = 0
    for (const { bytes, rowBytes } of this.#lanes)
      for (let head = 0; head < kvHeads; head++) {
        const row = (seat * kvHeads + head) * this.capacity
        const rows = bytes.subarray((row + begin) * rowBytes, (row + end) * rowBytes)
        visit(rows, at)
        at += rows.length
      }
  }

  #first(kind: KvKind, layer: number): number {
    return (2 * layer + (kind === 'k' ? 0 : 1)) * this.#parts
  }
}
