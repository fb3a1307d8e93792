import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { afterAll, expect, test } from 'vitest'
import { answer, BLOCK, KEYS, promptBlocksContract } from './prompt-blocks.ts'
import { writeTinyCheckpoint } from './tiny-checkpoint.ts'

const tiny = await writeTinyCheckpoint()
const checkpoint = await readCheckpoint(tiny.dir)
const baseDigest = fromHex('b'.repeat(64))
afterAll(() => tiny.remove())

promptBlocksContract('onnx', (options) => openOnnxEngine({ checkpoint, baseDigest, ...options }))

test.each(['fp16', 'int8'] as const)(
  'stored blocks of %s keys and values give the same bits',
  async (kvPrecision) => {
    const held = await openOnnxEngine({ checkpoint, baseDigest, kvPrecision })
    expect(held.info.kvPrecision).toBe(kvPrecision)
    const plain = await answer(held, [])
    expect(await answer(held, [], KEYS)).toEqual(plain)
    const again = await answer(held, [], KEYS)
    expect(again).toEqual({ cachedTokens: 4 * BLOCK, outputs: plain.outputs.slice(4) })
    await held[Symbol.asyncDispose]()
  },
)
