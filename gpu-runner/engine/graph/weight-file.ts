/** Where a weight's bytes lie in the external file of a graph. */
export interface Place {
  offset: number
  length: number
}

/**
 * The weights of a base at one precision, each once: every variant of the graph refers to the same bytes.
 * Offsets are multiples of 64.
 */
export interface WeightFile {
  /** Name by which a model beside the file refers to it. */
  readonly name: string
  /** @param make is called where the file does not hold the weight yet */
  place(weight: string, make: () => ArrayBufferView): Place
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

  place(weight: string, make: () => ArrayBufferView): Place {
    const known = this.#placed.get(weight)
    if (known) return known
    const data = make()
    const place = { offset: this.#used, length: data.byteLength }
    const used = this.#used + aligned(data.byteLength)
    if (used > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(used, this.#bytes.length * 1.5))
      grown.set(this.bytes)
      this.#bytes = grown
    }
    this.#bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), place.offset)
    this.#used = used
    this.#placed.set(weight, place)
    return place
  }
}

export const aligned = (bytes: number): number => Math.ceil(bytes / ALIGN) * ALIGN
