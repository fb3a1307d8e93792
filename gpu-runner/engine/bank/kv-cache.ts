import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { bucketFor } from './kv-buckets.ts'
import { emptyView, type KvPrecision } from './kv-format.ts'
import { KvGroup, type KvKind, type KvShape, seatBytes } from './kv-group.ts'

/** Where a slot's positions are held. */
export interface Seat {
  group: KvGroup
  seat: number
  /** Positions that are written. */
  filled: number
  /** A value that is not finite was written: the seat is wiped when it is left. */
  poisoned: boolean
}

export interface KvCacheOptions {
  shape: KvShape
  /** Most slots in use at once. */
  slots: number
  precision: KvPrecision
  budgetBytes: number
}

/**
 * Keys and values of the open sequences. A slot sits in the group of the smallest capacity that holds it and moves on
 * when it outgrows that, so a long sequence costs only itself. Bytes held never exceed the budget; a group that
 * nobody sits in holds none.
 */
export class KvCache {
  readonly #options: KvCacheOptions
  readonly #groups = new Map<number, KvGroup>()
  readonly #seats = new Map<number, Seat>()

  constructor(options: KvCacheOptions) {
    this.#options = options
  }

  get heldBytes(): number {
    let bytes = 0
    for (const group of this.#groups.values())
      bytes += group.seats * this.#seatBytes(group.capacity)
    return bytes
  }

  /** undefined until something was reserved. */
  seat(slot: number): Seat | undefined {
    return this.#seats.get(slot)
  }

  /**
   * Makes room for `positions` of a slot.
   * @throws ERR_PROMPT_TOO_LONG when they do not fit the budget, ERR_OVERLOADED when they would if others were gone
   */
  reserve(slot: number, positions: number): void {
    const now = this.#seats.get(slot)
    if (now && now.group.capacity >= positions) return
    this.move(slot, bucketFor(positions))
  }

  /** Whether one more seat of a capacity fits the budget. */
  fits(capacity: number): boolean {
    return (
      this.#groups.get(capacity)?.freeSeat() != null ||
      this.heldBytes + this.#seatBytes(capacity) <= this.#options.budgetBytes
    )
  }

  /** Seats a slot at another capacity, with what is written of it. */
  move(slot: number, capacity: number): void {
    const group = this.#group(capacity)
    const seat = this.#freeSeat(group)
    const old = this.#seats.get(slot)
    group.take(seat, slot)
    if (old) old.group.copy(old.seat, old.filled, group, seat)
    this.#seats.set(slot, { group, seat, filled: 0, poisoned: false, ...kept(old) })
    if (old) this.#leave(old)
  }

  /** Moves a group's last slots into seats that are free before them, so that its views have no gaps. */
  compact(group: KvGroup): void {
    for (;;) {
      const free = group.freeSeat()
      const last = group.lastTaken
      if (free === null || free > last) return
      const slot = group.slotAt(last)!
      const seat = this.#seats.get(slot)!
      group.copy(last, seat.filled, group, free)
      group.take(free, slot)
      group.leave(last, seat.poisoned)
      seat.seat = free
    }
  }

  /** Writes f32 rows [kvHeads, tokens, headDim] behind what is written of a slot; `advance` then counts them. */
  append(slot: number, kind: KvKind, layer: number, tokens: number, rows: Float32Array, from = 0) {
    const { group, seat, filled } = this.#seats.get(slot)!
    group.append(kind, layer, seat, filled, tokens, rows, from)
  }

  advance(slot: number, tokens: number): void {
    this.#seats.get(slot)!.filled += tokens
  }

  poison(slot: number): void {
    const seat = this.#seats.get(slot)
    if (seat) seat.poisoned = true
  }

  /** Rows of neighbouring seats as the graph reads them; none where there is no past. */
  view(
    past: { capacity: number; seat: number } | null,
    kind: KvKind,
    layer: number,
    count: number,
  ) {
    if (past) return this.#groups.get(past.capacity)!.view(kind, layer, past.seat, count)
    return emptyView(this.#options.precision)
  }

  /** Positions [begin, end) of a slot as they are held. */
  read(slot: number, begin: number, end: number): Uint8Array {
    const { group, seat } = this.#seats.get(slot)!
    return group.read(seat, begin, end)
  }

  /** Puts pieces that `read` gave behind what is written of a slot. Room was reserved. */
  restore(slot: number, tokens: number, piece: Uint8Array): void {
    const seat = this.#seats.get(slot)!
    seat.group.write(seat.seat, seat.filled, seat.filled + tokens, piece)
    seat.filled += tokens
  }

  free(slot: number): void {
    const seat = this.#seats.get(slot)
    if (!seat) return
    this.#seats.delete(slot)
    this.#leave(seat)
  }

  #leave({ group, seat, poisoned }: Seat): void {
    group.leave(seat, poisoned)
    const used = group.lastTaken + 1
    // Half of the seats may stand empty for those who come next; none where nobody is left.
    if (used === 0) {
      group.resize(0)
      this.#groups.delete(group.capacity)
    } else if (group.seats > 2 * used) group.resize(used)
  }

  #group(capacity: number): KvGroup {
    const known = this.#groups.get(capacity)
    if (known) return known
    const { shape, precision, slots, budgetBytes } = this.#options
    const most = Math.min(slots, Math.max(1, Math.floor(budgetBytes / this.#seatBytes(capacity))))
    const group = new KvGroup(shape, precision, capacity, most)
    this.#groups.set(capacity, group)
    return group
  }

  #freeSeat(group: KvGroup): number {
    const free = group.freeSeat()
    if (free !== null) return free
    const bytes = this.#seatBytes(group.capacity)
    if (this.heldBytes + bytes > this.#options.budgetBytes) this.#shrink()
    if (this.heldBytes + bytes > this.#options.budgetBytes) throw this.#refusal(group.capacity)
    try {
      group.resize(group.seats + 1)
    } catch (cause) {
      throw this.#refusal(group.capacity, cause)
    }
    return group.seats - 1
  }

  /** Gives back every seat behind the last one that is taken. */
  #shrink(): void {
    for (const group of this.#groups.values()) {
      this.compact(group)
      group.resize(group.lastTaken + 1)
    }
  }

  #refusal(capacity: number, cause?: unknown): GraftError {
    const { budgetBytes } = this.#options
    const bytes = this.#seatBytes(capacity)
    return bytes > budgetBytes
      ? new GraftError(
          'ERR_PROMPT_TOO_LONG',
          expected(
            `memory for ${capacity} positions`,
            `at most ${budgetBytes} bytes, the budget of keys and values`,
            bytes,
          ),
          { cause },
        )
      : new GraftError(
          'ERR_OVERLOADED',
          `keys and values of the other sequences hold ${this.heldBytes} of ${budgetBytes} bytes, ${bytes} more are needed for ${capacity} positions; try again when some have ended`,
          { cause },
        )
  }

  #seatBytes(capacity: number): number {
    return seatBytes(this.#options.shape, this.#options.precision, capacity)
  }
}

const kept = (old: Seat | undefined): Partial<Pick<Seat, 'filled' | 'poisoned'>> =>
  old ? { filled: old.filled, poisoned: old.poisoned } : {}
