/** Shared memory that adapters are converted in, used again: fresh pages cost more than the conversion itself. */
export interface Scratch {
  /** At least so many bytes; what stands in them is of no meaning. */
  take(bytes: number): SharedArrayBuffer
  give(memory: SharedArrayBuffer): void
}

const MIB = 1024 * 1024

/** @param keepBytes kept for the next load when nothing is under way */
export function createScratch(keepBytes = 64 * MIB): Scratch {
  /** Smallest first. */
  let free: SharedArrayBuffer[] = []
  return {
    take(bytes) {
      const found = free.find((memory) => memory.byteLength >= bytes)
      free = free.filter((memory) => memory !== found)
      return found ?? new SharedArrayBuffer(Math.ceil(bytes / MIB) * MIB)
    },
    give(memory) {
      free = [...free, memory].sort((a, b) => a.byteLength - b.byteLength)
      let kept = free.reduce((sum, { byteLength }) => sum + byteLength, 0)
      // The largest stay: they fit the most. What is let go is the collector's.
      while (kept > keepBytes && free.length > 0) kept -= free.shift()!.byteLength
    },
  }
}
