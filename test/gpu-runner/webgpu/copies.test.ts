import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Execution } from '@graft/runner/engine/graph/execution.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { afterAll, expect, test } from 'vitest'
import { watchCopies } from '../../bench/webgpu/watch-copies.ts'
import { freshId } from '../engine/measure.ts'
import { lowRank } from '../engine/random-adapters.ts'
import { TINY, writeTinyCheckpoint } from '../engine/tiny-checkpoint.ts'
import { describeOnWebGpu } from './adapter.ts'

const tiny = await writeTinyCheckpoint()
const checkpoint = await readCheckpoint(tiny.dir)
const baseDigest = fromHex('b'.repeat(64))
const copies = watchCopies()
afterAll(() => tiny.remove())

/** What a prompt and then one decode step of two rows copy, one of them with an adapter. */
async function copied(execution: Execution) {
  const engine = await openOnnxEngine({ checkpoint, baseDigest, execution })
  const adapter = lowRank(1)
  await engine.load(adapter)
  const ids = [freshId(), freshId()]
  await engine.open(ids[0]!, [])
  await engine.open(ids[1]!, [{ digest: adapter.digest, weight: 1 }])
  const feed = async (tokenIds: number[]) => {
    copies()
    await engine.step(ids.map((sequence) => ({ sequence, tokenIds, logits: 'last' })))
    return copies()
  }
  const [prompt, decode] = [await feed([5, 3, 100]), await feed([9])]
  await engine[Symbol.asyncDispose]()
  return { prompt, decode }
}

describeOnWebGpu('copies between host and device', () => {
  test('no key or value crosses, and of what a step computes only logits and a number a row', async () => {
    const { prompt, decode } = await copied('webgpu')
    expect(prompt.kv).toBe(0)
    expect(decode).toMatchObject({ runs: 1, kv: 0, toHost: 2 * (TINY.vocab + 1) * 4 })
    // The adapter crossed before the prompt; a decode step names its rows alone.
    expect(decode.toDevice).toBeLessThan(4096)
    // The same count sees the form that holds keys and values on the host.
    expect((await copied('cpu')).decode.kv).toBeGreaterThan(0)
  })
})
