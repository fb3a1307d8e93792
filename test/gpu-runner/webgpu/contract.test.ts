import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { openEngine } from '@graft/runner/engine/open-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { afterAll, expect, test } from 'vitest'
import { engineContract } from '../engine/contract.ts'
import { logitsOf } from '../engine/measure.ts'
import { writeTinyCheckpoint } from '../engine/tiny-checkpoint.ts'
import { describeOnWebGpu } from './adapter.ts'

const tiny = await writeTinyCheckpoint()
const checkpoint = await readCheckpoint(tiny.dir)
const baseDigest = fromHex('b'.repeat(64))
afterAll(() => tiny.remove())

describeOnWebGpu('with an adapter', () => {
  engineContract('onnx on WebGPU', (options) =>
    openOnnxEngine({ checkpoint, baseDigest, execution: 'webgpu', ...options }),
  )

  test('the same engine runs in a thread of its own', async () => {
    const options = { baseDigest, execution: 'webgpu' } as const
    const own = await openEngine({ ...options, checkpointDir: tiny.dir })
    const here = await openOnnxEngine({ ...options, checkpoint })
    expect(own.info).toMatchObject({ execution: 'webgpu', build: here.info.build })
    expect(await logitsOf(own, [], [5, 3, 100])).toEqual(await logitsOf(here, [], [5, 3, 100]))
    for (const engine of [own, here]) await engine[Symbol.asyncDispose]()
  })
})
