import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createRunner, type Runner } from '@graft/runner/app.ts'
import { describeCheckpoint } from '@graft/runner/checkpoint/describe-checkpoint.ts'
import { openEngine } from '@graft/runner/engine/open-engine.ts'
import { openTokenizer } from '@graft/runner/tokenizer/open-tokenizer.ts'
import { generateSigningKey, signJwt } from '@graft/sdk/format/jws.ts'
import type { BaseRecord } from '@graft/sdk/protocol/registry-api.ts'
import { requestHash } from '@graft/sdk/protocol/request-hash.ts'
import type { Frame, GenerateRequest } from '@graft/sdk/protocol/runner-api.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createTestRegistry, type Published, type TestRegistry } from './helpers/published.ts'
import { type Draft, publishStory, STORY, storyAbsent } from './helpers/story.ts'
import { GREEDY, idsOf } from './helpers/test-runner.ts'

const { prompts } = JSON.parse(
  readFileSync(join(import.meta.dirname, 'fixtures/story-lora/goldens.json'), 'utf8'),
) as { prompts: { tokenIds: number[]; greedy: { tokenIds: number[] } }[] }
const [{ tokenIds, greedy }] = prompts as [(typeof prompts)[0]]

interface StoryRunner extends AsyncDisposable {
  runner: Runner
  registry: TestRegistry
  base: BaseRecord
  call(adapter: Published | null, change?: Partial<GenerateRequest>): Promise<Frame[]>
}

/** A runner on the real engine, over a registry in memory. */
async function openStoryRunner(precision: 'fp32' | 'int8'): Promise<StoryRunner> {
  const folder = await mkdtemp(join(tmpdir(), 'graft-admission-'))
  const base = await describeCheckpoint(STORY)
  const engine = await openEngine({ checkpointDir: STORY, precision })
  const registry = createTestRegistry()
  const fleetKey = await generateSigningKey()
  const runner = createRunner({
    id: 'r1',
    engine,
    codec: await openTokenizer(STORY, engine.info.vocab),
    baseTensors: base.tensors,
    registry,
    cacheFolder: folder,
    key: await generateSigningKey(),
    fleetKeys: [fleetKey.publicJwk],
    clock: () => new Date(),
  })
  expect(engine.info.base.digest).toBe(base.digest)
  return {
    runner,
    registry,
    base,
    async call(adapter, change = {}) {
      const body: GenerateRequest = {
        requestId: 'req_1',
        requestHash: base.digest,
        tenant: 'acme',
        base: base.digest,
        adapters: adapter
          ? [{ digest: adapter.digest, weight: '1', label: '@acme/story@1.0.0', capability: null }]
          : [],
        prompt: { kind: 'tokens', tokenIds },
        sampling: GREEDY,
        maxTokens: 6,
        n: 1,
        deadline: null,
        ...change,
      }
      const iat = Math.floor(Date.now() / 1000)
      const claims = { iss: 'edge', aud: 'r1', role: 'edge', iat, exp: iat + 60 }
      const token = await signJwt(claims, 'graft-fleet+jwt', fleetKey)
      const response = await runner.fetch(
        new Request('http://runner/v1/generate', {
          method: 'POST',
          headers: { authorization: `Bearer ${token}` },
          body: JSON.stringify({ ...body, requestHash: await requestHash(body) }),
        }),
      )
      const text = await response.text()
      if (!response.ok) throw JSON.parse(text).error
      const lines = text.trim().split('\n')
      return lines.map((line) => JSON.parse(line) as Frame)
    },
    async [Symbol.asyncDispose]() {
      await runner[Symbol.asyncDispose]()
      await engine[Symbol.asyncDispose]()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

const lowRank = (draft: Draft, site: string) => {
  const op = draft.manifest.operations.find((o) => o.site.endsWith(site))
  if (op?.op !== 'low_rank') throw new Error(`no low_rank at ${site}`)
  return op
}

/** What a broken tool or a swapped file does to an adapter after its goldens were made. */
const SABOTAGES: [string, (draft: Draft) => void][] = [
  [
    'a scale that is off by 2%',
    (draft) => {
      const op = lowRank(draft, 'v_proj')
      op.scale = String(Number(op.scale) * 1.02)
    },
  ],
  [
    'a transposed A, whose shape gives nothing away',
    (draft) => {
      const op = lowRank(draft, 'q_proj')
      const tensor = draft.tensors.get(op.slots.A)!
      expect(tensor.shape).toEqual([128, 128])
      const { values } = tensor
      tensor.values = values.map((_, at) => values[(at % 128) * 128 + Math.floor(at / 128)]!)
    },
  ],
  [
    'the weights of another adapter',
    (draft) => {
      for (const tensor of draft.tensors.values()) tensor.values = tensor.values.toReversed()
    },
  ],
  [
    'a module that was dropped',
    (draft) => {
      const op = lowRank(draft, 'v_proj')
      draft.manifest.operations = draft.manifest.operations.filter((o) => o !== op)
      for (const name of Object.values(op.slots)) draft.tensors.delete(name)
    },
  ],
]

const other = SABOTAGES.find(([name]) => name.startsWith('the weights'))![1]

describe.skipIf(storyAbsent)('admission against goldens of PEFT, fp32', () => {
  let t: StoryRunner
  beforeAll(async () => {
    t = await openStoryRunner('fp32')
  })
  afterAll(() => t[Symbol.asyncDispose]())

  it('admits the adapter as PEFT made it, and answers with PEFT’s greedy tokens', async () => {
    const adapter = await publishStory(t.base)
    t.registry.add(adapter)
    expect(idsOf(await t.call(adapter))).toEqual(greedy.tokenIds)
    expect(idsOf(await t.call(null))).not.toEqual(greedy.tokenIds)
    expect(t.runner.status().residency).toContainEqual(
      expect.objectContaining({ digest: adapter.digest, tier: 'bank' }),
    )
  })

  it.each(SABOTAGES)('refuses %s', async (_, sabotage) => {
    const adapter = await publishStory(t.base, sabotage)
    t.registry.add(adapter)
    await expect(t.call(adapter)).rejects.toMatchObject({
      code: 'ERR_ADMISSION_FAILED',
      message: expect.stringMatching(/^goldens: prompt 0: adapted logits must be within 0\.0001/),
    })
    const held = t.runner.status().residency.find(({ digest }) => digest === adapter.digest)
    expect(held?.tier).not.toBe('bank')
  })

  it('keeps streams going while an adapter is admitted', async () => {
    const adapter = await publishStory(t.base, (draft) => {
      draft.manifest.description = 'the same weights under another digest'
    })
    t.registry.add(adapter)
    const stream = t.call(null, { maxTokens: 40 })
    const [admitted, plain] = await Promise.all([t.call(adapter), stream])
    expect(idsOf(admitted)).toEqual(greedy.tokenIds)
    expect(idsOf(plain)).toEqual(idsOf(await t.call(null, { maxTokens: 40 })))
  })
})

describe.skipIf(storyAbsent)('admission against goldens of PEFT, base in int8', () => {
  it('admits by the effect of the adapter, and refuses another adapter’s effect', async () => {
    await using t = await openStoryRunner('int8')
    const [good, swapped] = [await publishStory(t.base), await publishStory(t.base, other)]
    t.registry.add(good)
    t.registry.add(swapped)
    expect(idsOf(await t.call(good))).toHaveLength(6)
    await expect(t.call(swapped)).rejects.toMatchObject({
      code: 'ERR_ADMISSION_FAILED',
      message: expect.stringMatching(/^goldens: prompt 0: effect must have a cosine/),
    })
  })
})
