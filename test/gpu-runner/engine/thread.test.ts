import { join } from 'node:path'
import { describeCheckpoint } from '@graft/runner/checkpoint/describe-checkpoint.ts'
import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Engine, LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { openEngine } from '@graft/runner/engine/open-engine.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { logitsOf } from './measure.ts'
import { importFolder } from './peer-goldens.ts'

const PEERS = join(import.meta.dirname, 'fixtures/peers')
const NAMES = ['lora', 'dora', 'lora-head', 'ia3', 'prompt', 'prefix', 'seq-bn', 'double-seq-bn']
const PROMPT = [5, 17, 3, 9, 21, 8]

const adapters = new Map<string, LoadedAdapter>()
const engines: Record<string, { here: Engine; thread: Engine }> = {}

/** The same adapter over shared memory, as the tiers hand it over. */
const shared = (adapter: LoadedAdapter): LoadedAdapter => ({
  ...adapter,
  tensors: new Map(
    [...adapter.tensors].map(([name, { shape, data }]) => {
      const copy = new Float32Array(new SharedArrayBuffer(data.byteLength))
      copy.set(data)
      return [name, { shape, data: copy }]
    }),
  ),
})

beforeAll(async () => {
  const dir = join(PEERS, 'base')
  const base = await describeCheckpoint(dir, 'peers-base')
  for (const name of NAMES) adapters.set(name, await importFolder(join(PEERS, name), base))
  const checkpoint = await readCheckpoint(dir)
  for (const bankPrecision of ['fp32', 'int8'] as const) {
    const options = { baseDigest: base.digest, bankPrecision }
    engines[bankPrecision] = {
      here: await openOnnxEngine({ checkpoint, ...options }),
      thread: await openEngine({ checkpointDir: dir, ...options }),
    }
  }
}, 180_000)
afterAll(async () => {
  for (const { here, thread } of Object.values(engines)) {
    await here[Symbol.asyncDispose]()
    await thread[Symbol.asyncDispose]()
  }
})

describe('an engine in threads of its own', () => {
  it.each(['fp32', 'int8'] as const)(
    'compiles every operation to the very same logits, bank at %s',
    async (bankPrecision) => {
      const { here, thread } = engines[bankPrecision]!
      for (const [name, adapter] of adapters) {
        const given = shared(adapter)
        expect(await thread.load(given)).toEqual(await here.load(adapter))
        // What was handed over may be used again by its owner.
        for (const { data } of given.tensors.values()) data.fill(Number.NaN)
        const terms = [{ digest: adapter.digest, weight: 1 }]
        expect([name, await logitsOf(thread, terms, PROMPT)]).toEqual([
          name,
          await logitsOf(here, terms, PROMPT),
        ])
      }
    },
    120_000,
  )

  it('says what is wrong with an adapter as the engine itself does, and goes on', async () => {
    const { here, thread } = engines['fp32']!
    const good = adapters.get('lora')!
    const bad: LoadedAdapter = { ...good, tensors: new Map([...good.tensors].slice(1)) }
    const wanted = await here.load(bad).catch((e) => e)
    expect(wanted).toMatchObject({ code: 'ERR_TENSOR_MISSING' })
    await expect(thread.load(bad)).rejects.toMatchObject({
      code: wanted.code,
      message: wanted.message,
    })
    await expect(thread.load(good)).resolves.toMatchObject({ bytes: expect.any(Number) })
  })
})
