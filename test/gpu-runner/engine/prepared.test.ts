import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Engine } from '@graft/runner/engine/engine.ts'
import { openMergedEngine } from '@graft/runner/engine/merged/open-merged.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { openEngine } from '@graft/runner/engine/open-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { logitsOf } from './measure.ts'
import { dora, ia3, lowRank } from './random-adapters.ts'
import { writeTinyCheckpoint } from './tiny-checkpoint.ts'

const BASE = fromHex('b'.repeat(64))
const PROMPT = [5, 3, 100, 60, 7, 7, 19]
const ADAPTERS = [lowRank(1), lowRank(2, 20), dora(3), ia3(4)]
const PRECISIONS = ['fp32', 'int8', 'w8a8', 'int4'] as const

let tiny: Awaited<ReturnType<typeof writeTinyCheckpoint>>
let preparedDir: string
beforeAll(async () => {
  tiny = await writeTinyCheckpoint()
})
afterAll(() => tiny?.remove())
beforeEach(async () => {
  preparedDir = await mkdtemp(join(tmpdir(), 'graft-prepared-'))
  return () => rm(preparedDir, { recursive: true, force: true })
})

/** Logits of the base and of every adapter, one after the other. */
async function answers(engine: Engine): Promise<string[]> {
  const all: string[] = []
  try {
    for (const adapter of ADAPTERS) await engine.load(adapter)
    for (const terms of [[], ...ADAPTERS.map(({ digest }) => [{ digest, weight: 1 }])])
      all.push(Buffer.from((await logitsOf(engine, terms, PROMPT)).slice().buffer).toString('hex'))
  } finally {
    await engine[Symbol.asyncDispose]()
  }
  return all
}

const open = (precision: (typeof PRECISIONS)[number] = 'int4') =>
  openEngine({ checkpointDir: tiny.dir, baseDigest: BASE, precision, preparedDir })

const folder = async () => join(preparedDir, (await readdir(preparedDir))[0]!)

describe('a prepared base', () => {
  test.each(PRECISIONS)('at %s answers bit for bit as weights in memory do', async (precision) => {
    const checkpoint = await readCheckpoint(tiny.dir)
    const memory = await openOnnxEngine({ checkpoint, baseDigest: BASE, precision })
    expect(await answers(await open(precision))).toEqual(await answers(memory))
  })

  test('is made once: the next start maps the same file', async () => {
    const first = await answers(await open())
    const file = join(await folder(), 'weights.bin')
    const before = await stat(file)
    expect(await answers(await open())).toEqual(first)
    expect(await stat(file)).toMatchObject({ ino: before.ino, mtimeMs: before.mtimeMs })
    expect(await readdir(preparedDir)).toHaveLength(1)
    expect((await readdir(await folder())).filter((name) => name.endsWith('.tmp'))).toEqual([])
  })

  test.each([
    ['one bit of its weights is wrong', 'weights.bin', (bytes: Buffer) => flip(bytes)],
    ['its weights end early', 'weights.bin', (bytes: Buffer) => bytes.subarray(0, -64)],
    ['its index is cut', 'index.json', (bytes: Buffer) => bytes.subarray(0, -10)],
  ])('is made anew when %s', async (_, name, damage) => {
    const first = await answers(await open())
    const file = join(await folder(), name)
    await writeFile(file, damage(await readFile(file)))
    expect(await answers(await open())).toEqual(first)
  })

  test('may be made by two engines at once', async () => {
    const [first, second] = await Promise.all([open(), open()])
    expect(await answers(first)).toEqual(await answers(second))
    expect((await readdir(await folder())).filter((name) => name.endsWith('.tmp'))).toEqual([])
  })

  test('takes away what a process that is no more was writing, and nothing of others', async () => {
    await (await open())[Symbol.asyncDispose]()
    await rm(join(await folder(), 'index.json'))
    const [gone, alive] = [2 ** 22 + 1, process.pid].map(
      (pid) => `weights.bin.${pid}-00000000-0000-0000-0000-000000000000.tmp`,
    )
    for (const name of [gone!, alive!]) await writeFile(join(await folder(), name), 'half')
    await (await open())[Symbol.asyncDispose]()
    expect((await readdir(await folder())).filter((name) => name.endsWith('.tmp'))).toEqual([alive])
  })

  test('that was left half made is not read', async () => {
    const first = await answers(await open())
    await rm(join(await folder(), 'index.json'))
    await writeFile(join(await folder(), 'weights.bin'), 'half')
    expect(await answers(await open())).toEqual(first)
  })

  test('with an adapter merged into it is gone when its engine is', async () => {
    const options = { checkpointDir: tiny.dir, baseDigest: BASE, preparedDir }
    const merged = await openMergedEngine(options, lowRank(1))
    expect(await readdir(preparedDir)).toEqual([expect.stringMatching(/^merged-/)])
    await merged[Symbol.asyncDispose]()
    expect(await readdir(preparedDir)).toEqual([])
  })
})

function flip(bytes: Buffer): Buffer {
  bytes[bytes.length >> 1]! ^= 1
  return bytes
}
