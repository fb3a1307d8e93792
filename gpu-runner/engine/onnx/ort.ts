import { createRequire } from 'node:module'
import type * as Ort from 'onnxruntime-node'

// CommonJS package: require gives its exports as they are, without Node guessing names.
const require = createRequire(import.meta.url)
export const ort = require('onnxruntime-node') as typeof Ort
export type { Ort }

export const ORT_VERSION = (require('onnxruntime-node/package.json') as { version: string }).version

export const floats = (data: Float32Array, dims: number[]): Ort.Tensor =>
  new ort.Tensor('float32', data, dims)

export const flags = (data: Uint8Array, dims: number[]): Ort.Tensor =>
  new ort.Tensor('bool', data, dims)

export const integers32 = (data: Int32Array, dims: number[]): Ort.Tensor =>
  new ort.Tensor('int32', data, dims)

export const longs = (data: BigInt64Array, dims: number[]): Ort.Tensor =>
  new ort.Tensor('int64', data, dims)
