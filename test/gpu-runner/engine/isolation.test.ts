import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { afterAll } from 'vitest'
import { isolationContract } from './isolation.ts'
import { writeTinyCheckpoint } from './tiny-checkpoint.ts'

const tiny = await writeTinyCheckpoint()
const checkpoint = await readCheckpoint(tiny.dir)
const baseDigest = fromHex('b'.repeat(64))
afterAll(() => tiny.remove())

isolationContract('onnx', (options) => openOnnxEngine({ checkpoint, baseDigest, ...options }))
for (const precision of ['w8a8', 'int4'] as const)
  isolationContract(`onnx ${precision}`, (options) =>
    openOnnxEngine({ checkpoint, baseDigest, precision, ...options }),
  )
