import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { afterAll, expect, test } from 'vitest'
import { freshId } from '../engine/measure.ts'
import { promptBlocksContract } from '../engine/prompt-blocks.ts'
import { writeTinyCheckpoint } from '../engine/tiny-checkpoint.ts'
import { describeOnWebGpu } from './adapter.ts'

const tiny = await writeTinyCheckpoint()
const checkpoint = await readCheckpoint(tiny.dir)
const options = { checkpoint, baseDigest: fromHex('b'.repeat(64)), execution: 'webgpu' } as const
afterAll(() => tiny.remove())

describeOnWebGpu('with an adapter', () => {
  promptBlocksContract('onnx on WebGPU', (more) => openOnnxEngine({ ...options, ...more }))

  test('positions beyond the budget are refused, and there again once a sequence ended', async () => {
    /** Of one position on the tiny base: 2 layers, K and V, 2 key heads, 16 values of 4 bytes. */
    const positionBytes = 2 * 2 * 2 * 16 * 4
    const engine = await openOnnxEngine({ ...options, kvBudgetBytes: 64 * positionBytes })
    const [a, b] = [freshId(), freshId()]
    for (const id of [a, b]) await engine.open(id, [])
    const feed = (sequence: number, count: number) =>
      engine.step([{ sequence, tokenIds: Array(count).fill(7), logits: 'last' }])
    const code = (name: string) => expect.objectContaining({ code: name })
    await expect(feed(a, 65)).rejects.toEqual(code('ERR_PROMPT_TOO_LONG'))
    await feed(a, 40)
    await expect(feed(b, 17)).rejects.toEqual(code('ERR_OVERLOADED'))
    await engine.close(a)
    expect((await feed(b, 64)).rows[0]!.finite).toBe(true)
    await engine[Symbol.asyncDispose]()
  })
})
