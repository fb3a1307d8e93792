/** How many calls this edge has open, by key (a runner's id, a token's id). */
export interface OpenCalls {
  count(key: string): number
  /** Counts one until disposed. */
  enter(key: string): Disposable
}

export function createOpenCalls(): OpenCalls {
  const counts = new Map<string, number>()
  const add = (key: string, by: number): void => {
    const next = (counts.get(key) ?? 0) + by
    if (next === 0) counts.delete(key)
    else counts.set(key, next)
  }
  return {
    count: (key) => counts.get(key) ?? 0,
    enter(key) {
      add(key, 1)
      let inside = true
      return {
        [Symbol.dispose]() {
          if (inside) add(key, -1)
          inside = false
        },
      }
    },
  }
}
