import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Engine } from '@graft/runner/engine/engine.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { afterAll, expect, test } from 'vitest'
import { freshId, worstShare } from './measure.ts'
import { TINY, writeTinyCheckpoint } from './tiny-checkpoint.ts'

const tiny = await writeTinyCheckpoint()
const checkpoint = await readCheckpoint(tiny.dir)
afterAll(() => tiny.remove())

/** Of one position on the tiny base: 2 layers, K and V, 2 key heads, 16 values of 4 bytes. */
const POSITION_BYTES = 2 * 2 * 2 * 16 * 4
const tokens = (count: number, seed = 1) =>
  Array.from({ length: count }, (_, t) => (t * 37 + seed) % TINY.vocab)
const bits = (logits: Float32Array): string => Buffer.from(logits.slice().buffer).toString('hex')
const code = (name: string) => expect.objectContaining({ code: name })

async function withEngine(positions: number, body: (engine: Engine) => Promise<void>) {
  const engine = await openOnnxEngine({
    checkpoint,
    baseDigest: fromHex('b'.repeat(64)),
    kvBudgetBytes: positions * POSITION_BYTES,
  })
  await body(engine)
  await engine[Symbol.asyncDispose]()
}

const prefill = async (engine: Engine, count: number): Promise<number> => {
  const id = freshId()
  await engine.open(id, [])
  await engine.step([{ sequence: id, tokenIds: tokens(count), logits: 'none' }])
  return id
}

test('short rows keep their size beside a long one: the budget holds what each of them needs', async () => {
  // One row at 192 positions and three at 64; four at 192 would need 768.
  await withEngine(192 + 3 * 64, async (engine) => {
    const ids = []
    for (const count of [150, 10, 20, 30]) ids.push(await prefill(engine, count))
    const id = freshId()
    await engine.open(id, [])
    const more = engine.step([{ sequence: id, tokenIds: [1], logits: 'last' }])
    await expect(more).rejects.toEqual(code('ERR_OVERLOADED'))
    // What closed rows held is there for others.
    await engine.close(ids[2]!)
    expect(
      (await engine.step([{ sequence: id, tokenIds: [1], logits: 'last' }])).rows,
    ).toHaveLength(1)
    for (const each of [id, ...ids]) await engine.close(each)
    await engine.close(await prefill(engine, 120))
  })
})

test('a row that outgrows the budget is refused and the others go on', async () => {
  await withEngine(128, async (engine) => {
    const id = await prefill(engine, 64)
    const long = freshId()
    await engine.open(long, [])
    await expect(
      engine.step([{ sequence: long, tokenIds: tokens(129), logits: 'last' }]),
    ).rejects.toEqual(code('ERR_PROMPT_TOO_LONG'))
    await engine.step([{ sequence: long, tokenIds: tokens(60), logits: 'last' }])
    // 65 positions need a seat of 128 beside the two of 64.
    const rows = [id, long].map((sequence) => ({
      sequence,
      tokenIds: [7],
      logits: 'last' as const,
    }))
    await expect(engine.step(rows)).rejects.toEqual(code('ERR_OVERLOADED'))
    const { rows: alone } = await engine.step([rows[1]!])
    expect(alone[0]).toMatchObject({ sequence: long, finite: true })
    await engine.close(long)
    await engine.close(id)
  })
})

test('a row has the same bits in every decode batch of its size, whatever the lengths of the others', async () => {
  await withEngine(4096, async (engine) => {
    const decode = async (lengths: number[]) => {
      const ids = []
      for (const count of lengths) ids.push(await prefill(engine, count))
      const outputs = []
      // The row grows from 61 to 67 positions and moves to a larger seat on its way.
      for (let t = 0; t < 6; t++) {
        const { rows } = await engine.step(
          ids.map((sequence) => ({ sequence, tokenIds: [t * 11], logits: 'last' })),
        )
        outputs.push(bits(rows[0]!.logits))
      }
      for (const id of ids) await engine.close(id)
      return outputs
    }
    const alike = await decode([61, 61, 61, 61])
    for (const others of [
      [150, 150, 150],
      [5, 100, 140],
      [63, 62, 129],
    ])
      expect(await decode([61, ...others])).toEqual(alike)
  })
})

test('rows that stay go on with the same bits when those before them end', async () => {
  await withEngine(4096, async (engine) => {
    const decode = async (first: number) => {
      const ids = []
      for (const count of [20, 30, 61, 40]) ids.push(await prefill(engine, count))
      for (const id of ids.splice(0, first)) await engine.close(id)
      const outputs = []
      for (let t = 0; t < 3; t++) {
        const rows = ids
          .slice(-2)
          .map((sequence) => ({ sequence, tokenIds: [t * 11], logits: 'last' as const }))
        outputs.push((await engine.step(rows)).rows.map(({ logits }) => bits(logits)))
      }
      for (const id of ids) await engine.close(id)
      return outputs
    }
    expect(await decode(2)).toEqual(await decode(0))
  })
})

test('rows that come and go leave the answers of those that stay as they are', async () => {
  await withEngine(8192, async (engine) => {
    const lengths = [61, 5, 100, 140, 30, 62, 80]
    const want = new Map<number, Float32Array[]>()
    for (const count of new Set(lengths)) {
      const id = await prefill(engine, count)
      const outputs: Float32Array[] = []
      for (let t = 0; t < 12; t++) {
        const { rows } = await engine.step([{ sequence: id, tokenIds: [t * 11], logits: 'last' }])
        outputs.push(rows[0]!.logits)
      }
      want.set(count, outputs)
      await engine.close(id)
    }
    const open = new Map<number, { count: number; at: number }>()
    for (let t = 0; t < 40; t++) {
      if (open.size < 5) {
        const count = lengths[t % lengths.length]!
        open.set(await prefill(engine, count), { count, at: 0 })
      }
      const rows = [...open].map(([sequence, { at }]) => ({
        sequence,
        tokenIds: [at * 11],
        logits: 'last' as const,
      }))
      for (const { sequence, logits } of (await engine.step(rows)).rows) {
        const row = open.get(sequence)!
        expect(worstShare(logits, want.get(row.count)![row.at++]!)).toBeLessThan(1e-5)
        if (row.at < 12 - (sequence % 5)) continue
        await engine.close(sequence)
        open.delete(sequence)
      }
    }
  })
})
