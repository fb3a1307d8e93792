/** The values of the keys that were set last, at most `limit` of them. */
export interface Remembered<K, V> {
  get(key: K): V | undefined
  set(key: K, value: V): void
  delete(key: K): void
}

export function rememberer<K, V>(limit: number): Remembered<K, V> {
  const values = new Map<K, V>()
  return {
    get: (key) => values.get(key),
    set(key, value) {
      values.delete(key)
      values.set(key, value)
      if (values.size > limit) values.delete(values.keys().next().value!)
    },
    delete: (key) => void values.delete(key),
  }
}
