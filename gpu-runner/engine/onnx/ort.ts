import { createRequire } from 'node:module'
import type * as Ort from 'onnxruntime-node'
import type { KvValues } from '../bank/kv-format.ts'

// CommonJS package: require gives its exports as they are, without Node guessing names.
const require = createRequire(import.meta.url)
export const ort = require('onnxruntime-node') as typeof Ort
export type { Ort }

export const ORT_VERSION = (require('onnxruntime-node/package.json') as { version: string }).version

export const floats = (data: Float32Array, dims: number[]): Ort.Tensor =>
  new ort.Tensor('float32', data, dims)

export const flags = (data: Uint8Array, dims: number[]): Ort.Tensor =>
  new ort.Tensor('bool', data, dims)

/** Keys or values as they are held: f32, half floats as their bits, or int8. */
export function kvTensor(data: KvValues, dims: number[]): Ort.Tensor {
  if (data instanceof Float32Array) return floats(data, dims)
  if (data instanceof Int8Array) return new ort.Tensor('int8', data, dims)
  const tensor = new ort.Tensor('float16', data, dims)
  // Where Float16Array exists the constructor turns bits into one, and the binding (1.30.0) reads nothing but bits.
  return Object.defineProperty(tensor, 'cpuData', { value: data })
}

export const integers32 = (data: Int32Array, dims: number[]): Ort.Tensor =>
  new ort.Tensor('int32', data, dims)

export const longs = (data: BigInt64Array, dims: number[]): Ort.Tensor =>
  new ort.Tensor('int64', data, dims)
