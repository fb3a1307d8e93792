import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { afterAll } from 'vitest'
import { isolationContract } from '../engine/isolation.ts'
import { writeTinyCheckpoint } from '../engine/tiny-checkpoint.ts'
import { describeOnWebGpu } from './adapter.ts'

const tiny = await writeTinyCheckpoint()
const checkpoint = await readCheckpoint(tiny.dir)
const baseDigest = fromHex('b'.repeat(64))
afterAll(() => tiny.remove())

describeOnWebGpu('with an adapter', () => {
  isolationContract('onnx on WebGPU', (options) =>
    openOnnxEngine({ checkpoint, baseDigest, execution: 'webgpu', ...options }),
  )
})
