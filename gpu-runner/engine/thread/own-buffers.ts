/**
 * Plain data with typed arrays, ready to leave a thread by transfer. An array over shared memory is somebody else's
 * (a tier's, which may reuse it) and is copied; two views of one buffer share it still.
 */
export function ownBuffers<T>(data: T): { value: T; buffers: ArrayBuffer[] } {
  const buffers = new Set<ArrayBuffer>()
  const own = (value: unknown): unknown => {
    if (ArrayBuffer.isView(value)) {
      const view = value.buffer instanceof ArrayBuffer ? value : (value as Float32Array).slice()
      buffers.add(view.buffer as ArrayBuffer)
      return view
    }
    if (value instanceof Map) return new Map([...value].map(([key, item]) => [key, own(item)]))
    if (Array.isArray(value)) return typeof value[0] === 'object' ? value.map(own) : value
    // Sets hold keys, and whatever else is cloned as it is.
    if (isPlain(value))
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, own(item)]))
    return value
  }
  return { value: own(data) as T, buffers: [...buffers] }
}

const isPlain = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype
