/** Where a weight's bytes lie in the external file of a graph. */
export interface Place {
  offset: number
  length: number
}

/** Gives a weight's bytes, whole or piece by piece. */
export type MakeWeight = () => ArrayBufferView | Iterable<ArrayBufferView>

/** The pieces of a weight as bytes, in order. */
export function* piecesOf(made: ReturnType<MakeWeight>): Iterable<Uint8Array> {
  for (const piece of ArrayBuffer.isView(made) ? [made] : made)
    yield new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength)
}

/**
 * The weights of a base at one precision, each once: every variant of the graph refers to the same bytes.
 * Offsets are multiples of 64.
 */
export interface WeightFile {
  /** Name by which a model beside the file refers to it. */
  readonly name: string
  /** @param make is called where the file does not hold the weight yet */
  place(weight: string, make: MakeWeight): Place
}

const ALIGN = 64

/** Weights in memory, for bases that are not prepared on disk. */
export class MemoryWeights implements WeightFile {
  readonly name: string
  readonly #placed = new Map<string, Place>()
  #bytes = new Uint8Array(0)
  #used = 0

  constructor(name = 'weights.bin') {
    this.name = name
  }

  /** A view of all weights placed so far. */
  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#used)
  }

  place(weight: string, make: MakeWeight): Place {
    const known = this.#placed.get(weight)
    if (known) return known
    const offset = this.#used
    let end = offset
    for (const piece of piecesOf(make())) {
      this.#reserve(aligned(end + piece.length))
      this.#bytes.set(piece, end)
      end += piece.length
    }
    const place = { offset, length: end - offset }
    this.#used = aligned(end)
    this.#placed.set(weight, place)
    return place
  }

  #reserve(bytes: number): void {
    if (bytes <= this.#bytes.length) return
    const grown = new Uint8Array(Math.max(bytes, Math.ceil(this.#bytes.length * 1.5)))
    grown.set(this.#bytes)
    this.#bytes = grown
  }
}

export const aligned = (bytes: number): number => Math.ceil(bytes / ALIGN) * ALIGN
