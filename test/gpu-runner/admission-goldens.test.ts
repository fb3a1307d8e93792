import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createRunner, type Runner } from '@graft/runner/app.ts'
import { describeCheckpoint } from '@graft/runner/checkpoint/describe-checkpoint.ts'
import type { Engine } from '@graft/runner/engine/engine.ts'
import { openEngine } from '@graft/runner/engine/open-engine.ts'
import { openTokenizer } from '@graft/runner/tokenizer/open-tokenizer.ts'
import { generateSigningKey, type SigningKey, signJwt } from '@graft/sdk/format/jws.ts'
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

/** The real engine, an adapter that PEFT made and PEFT's own logits. */
describe.skipIf(storyAbsent)('admission against goldens of PEFT', () => {
  let engine: Engine
  let runner: Runner
  let registry: TestRegistry
  let base: BaseRecord
  let fleetKey: SigningKey
  let folder: string

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'graft-admission-'))
    base = await describeCheckpoint(STORY)
    engine = await openEngine({ checkpointDir: STORY, precision: 'fp32' })
    registry = createTestRegistry()
    fleetKey = await generateSigningKey()
    runner = createRunner({
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
  })
  afterAll(async () => {
    await runner[Symbol.asyncDispose]()
    await engine[Symbol.asyncDispose]()
    await rm(folder, { recursive: true, force: true })
  })

  async function call(adapter: Published | null, change: Partial<GenerateRequest> = {}) {
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
    const response = await runner.fetch(
      new Request('http://runner/v1/generate', {
        method: 'POST',
        headers: { authorization: `Bearer ${await signJwt(claims, 'graft-fleet+jwt', fleetKey)}` },
        body: JSON.stringify({ ...body, requestHash: await requestHash(body) }),
      }),
    )
    const text = await response.text()
    if (!response.ok) throw JSON.parse(text).error
    const lines = text.trim().split('\n')
    return lines.map((line) => JSON.parse(line) as Frame)
  }

  it('runs the base that the checkpoint is', () => {
    expect(engine.info.base.digest).toBe(base.digest)
  })

  it('admits the adapter as PEFT made it, and answers with PEFT’s greedy tokens', async () => {
    const adapter = await publishStory(base)
    registry.add(adapter)
    expect(idsOf(await call(adapter))).toEqual(greedy.tokenIds)
    expect(idsOf(await call(null))).not.toEqual(greedy.tokenIds)
    expect(runner.status().residency).toContainEqual(
      expect.objectContaining({ digest: adapter.digest, tier: 'bank' }),
    )
  })

  const lowRank = (draft: Draft, site: string) => {
    const op = draft.manifest.operations.find((o) => o.site.endsWith(site))
    if (op?.op !== 'low_rank') throw new Error(`no low_rank at ${site}`)
    return op
  }

  it.each<[string, (draft: Draft) => void]>([
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
  ])('refuses %s', async (_, sabotage) => {
    const adapter = await publishStory(base, sabotage)
    registry.add(adapter)
    await expect(call(adapter)).rejects.toMatchObject({
      code: 'ERR_ADMISSION_FAILED',
      message: expect.stringMatching(/^goldens: prompt 0: adapted logits must be within 0\.0001/),
    })
    const held = runner.status().residency.find(({ digest }) => digest === adapter.digest)
    expect(held?.tier).not.toBe('bank')
  })

  it('keeps streams going while an adapter is admitted', async () => {
    const adapter = await publishStory(base, (draft) => {
      draft.manifest.description = 'the same weights under another digest'
    })
    registry.add(adapter)
    const stream = call(null, { maxTokens: 40 })
    const [admitted, plain] = await Promise.all([call(adapter), stream])
    expect(idsOf(admitted)).toEqual(greedy.tokenIds)
    expect(idsOf(plain)).toEqual(idsOf(await call(null, { maxTokens: 40 })))
  })
})
