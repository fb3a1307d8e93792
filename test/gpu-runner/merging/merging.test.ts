import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createRunner, type Runner } from '@graft/runner/app.ts'
import { describeCheckpoint } from '@graft/runner/checkpoint/describe-checkpoint.ts'
import type { LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { createMergingEngine } from '@graft/runner/engine/merged/merging-engine.ts'
import { openMergedEngine } from '@graft/runner/engine/merged/open-merged.ts'
import { openEngine } from '@graft/runner/engine/open-engine.ts'
import type { MergeEvent, MergingOptions } from '@graft/runner/merging/merging.ts'
import { createTrafficWindow } from '@graft/runner/merging/traffic.ts'
import { openTokenizer } from '@graft/runner/tokenizer/open-tokenizer.ts'
import { generateSigningKey, type SigningKey } from '@graft/sdk/format/jws.ts'
import type { RunnerReceipt } from '@graft/sdk/protocol/receipts.ts'
import { requestHash } from '@graft/sdk/protocol/request-hash.ts'
import type { GenerateRequest, MergeStatus } from '@graft/sdk/protocol/runner-api.ts'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createFleetCaller, framesOf, receiptOf } from '../helpers/fleet-caller.ts'
import { GREEDY } from '../helpers/greedy.ts'
import { createTestRegistry, type Published } from '../helpers/published.ts'
import { publishStory, STORY, storyAbsent } from '../helpers/story.ts'
import { idsOf, startTestRunner } from '../helpers/test-runner.ts'

const FORM_BYTES = 1_000

interface MergeRunner {
  adapter: Published
  events: MergeEvent[]
  /** What the next form is built from instead of the adapter. */
  spoil: ((adapter: LoadedAdapter) => LoadedAdapter) | null
  call(change?: Partial<GenerateRequest>): Promise<{ ids: number[]; receipt: RunnerReceipt }>
  ask(method: string, path: string, body?: unknown): Promise<Response>
  close(): Promise<void>
}

/** A runner on the real engine with merging, over a registry in memory that holds one LoRA made by PEFT. */
async function openMergeRunner(options: Partial<MergingOptions> = {}): Promise<MergeRunner> {
  const folder = await mkdtemp(join(tmpdir(), 'graft-merging-'))
  const base = await describeCheckpoint(STORY)
  const opened = { checkpointDir: STORY, baseDigest: base.digest, slots: 8 }
  const traffic = createTrafficWindow(60_000)
  const events: MergeEvent[] = []
  const engine = createMergingEngine({
    base: await openEngine(opened),
    openMerged: (adapter) => openMergedEngine(opened, t.spoil ? t.spoil(adapter) : adapter),
    formBytes: FORM_BYTES,
    budgetBytes: FORM_BYTES,
    onStep: (sample) => traffic.add(sample, Date.now()),
  })
  const registry = createTestRegistry()
  const adapter = await publishStory(base)
  registry.add(adapter)
  const [key, fleetKey]: SigningKey[] = [await generateSigningKey(), await generateSigningKey()]
  const onEvent = (event: MergeEvent) => events.push(event)
  const runner: Runner = createRunner({
    id: 'r1',
    engine,
    codec: await openTokenizer(STORY, engine.info.vocab),
    baseTensors: base.tensors,
    registry,
    cacheFolder: folder,
    key: key!,
    fleetKeys: [fleetKey!.publicJwk],
    clock: () => new Date(),
    merging: { engine, traffic, auto: null, rebuildMs: 1, onEvent, ...options },
  })
  const t: MergeRunner = {
    adapter,
    events,
    spoil: null,
    ask: createFleetCaller(() => runner, fleetKey!).ask,
    async call(change = {}) {
      const body: GenerateRequest = {
        requestId: 'req_1',
        requestHash: base.digest,
        tenant: 'acme',
        base: base.digest,
        adapters: [pullOf(adapter)],
        prompt: { kind: 'text', text: 'Once upon a time' },
        sampling: GREEDY,
        maxTokens: 12,
        n: 1,
        deadline: null,
        ...change,
      }
      const sent = { ...body, requestHash: await requestHash(body) }
      const frames = await framesOf(await t.ask('POST', '/v1/generate', sent))
      return { ids: idsOf(frames), receipt: await receiptOf(frames, key!) }
    },
    async close() {
      await runner[Symbol.asyncDispose]()
      await engine[Symbol.asyncDispose]()
      await rm(folder, { recursive: true })
    },
  }
  return t
}

const pullOf = ({ digest }: Published) => ({
  digest,
  weight: '1',
  label: '@acme/story@1.0.0',
  capability: null,
})

describe.skipIf(storyAbsent)('merging by request', () => {
  let t: MergeRunner
  beforeEach(async () => {
    t = await openMergeRunner()
  })
  afterEach(() => t.close())
  const status = async () => (await (await t.ask('GET', '/v1/merges')).json()) as MergeStatus

  it('runs new answers merged and says so in their receipts, until it is taken back', async () => {
    const { digest } = t.adapter
    const banked = await t.call()
    expect(banked.receipt.mergeState).toBe('banked')
    const response = await t.ask('POST', '/v1/merges', pullOf(t.adapter))
    expect([response.status, await response.json()]).toEqual([
      200,
      { digest, bytes: FORM_BYTES, buildMs: expect.any(Number) },
    ])
    expect(await status()).toMatchObject({ byTraffic: false, room: 0, forms: [{ digest }] })

    const merged = await t.call()
    expect(merged.receipt).toMatchObject({ mergeState: 'merged', adapters: [{ digest }] })
    expect(merged.ids).toEqual(banked.ids)
    const two = await t.call({ n: 2 })
    expect(two.receipt.mergeState).toBe('merged')
    expect((await t.call({ adapters: [] })).receipt.mergeState).toBe('none')
    const half = [{ ...pullOf(t.adapter), weight: '0.5' }]
    expect((await t.call({ adapters: half })).receipt.mergeState).toBe('banked')

    expect((await t.ask('DELETE', `/v1/merges/${digest}`)).status).toBe(200)
    expect(await status()).toMatchObject({ room: 1, forms: [], barred: [digest] })
    expect((await t.call()).receipt.mergeState).toBe('banked')
    expect(t.events.map(({ event }) => event)).toEqual(['merged', 'unmerged'])
  })

  it.each([
    [
      'other weights',
      (adapter: LoadedAdapter): LoadedAdapter => ({
        ...adapter,
        tensors: new Map(
          [...adapter.tensors].map(([name, { shape, data }]) => [
            name,
            { shape, data: data.map((value) => value * 1.3) },
          ]),
        ),
      }),
    ],
    [
      'a missing site',
      (adapter: LoadedAdapter): LoadedAdapter => ({
        ...adapter,
        operations: adapter.operations.slice(1),
      }),
    ],
  ])('serves no merged form with %s: its goldens are not reproduced', async (_, spoil) => {
    t.spoil = spoil
    const response = await t.ask('POST', '/v1/merges', pullOf(t.adapter))
    expect(response.status).toBe(422)
    expect((await response.json()).error).toMatchObject({
      code: 'ERR_ADMISSION_FAILED',
      message: expect.stringMatching(/^goldens: prompt 0: adapted logits must be within 0.0001/),
    })
    expect((await t.call()).receipt.mergeState).toBe('banked')
    expect(await status()).toMatchObject({ room: 1, forms: [], barred: [t.adapter.digest] })
    expect(t.events).toMatchObject([{ event: 'merge_refused', digest: t.adapter.digest }])
    t.spoil = null
    expect((await t.ask('POST', '/v1/merges', pullOf(t.adapter))).status).toBe(200)
  })

  it('refuses weights, digests and fields that it does not know', async () => {
    const half = { ...pullOf(t.adapter), weight: '0.5' }
    expect((await t.ask('POST', '/v1/merges', half)).status).toBe(400)
    const strange = { ...pullOf(t.adapter), surprise: 1 }
    expect((await t.ask('POST', '/v1/merges', strange)).status).toBe(400)
    expect((await t.ask('DELETE', '/v1/merges/latest')).status).toBe(400)
  })
})

describe.skipIf(storyAbsent)('merging by traffic', () => {
  it('merges what dominates the traffic, without anybody asking', async () => {
    // Runs that cost nothing make adapter operations the whole of every step.
    const t = await openMergeRunner({ auto: { runMs: 0, rowMs: 0, positionMs: 0 } })
    try {
      expect((await t.call()).receipt.mergeState).toBe('banked')
      await expect
        .poll(async () => (await t.call()).receipt.mergeState, { interval: 100, timeout: 30_000 })
        .toBe('merged')
      expect(t.events).toMatchObject([{ event: 'merged', why: 'traffic' }])
    } finally {
      await t.close()
    }
  }, 60_000)
})

it('a runner without merging refuses by name, and says how to start one with it', async () => {
  const t = await startTestRunner()
  const response = await t.post('/v1/merges', {
    digest: t.base.digest,
    weight: '1',
    label: 'x',
    capability: null,
  })
  expect(response.status).toBe(422)
  expect((await response.json()).error.message).toMatch(/start it with --merge auto/)
  await t.close()
})
