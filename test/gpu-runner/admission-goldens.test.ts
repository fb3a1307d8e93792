import { readFileSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createRunner, type Runner } from '@graft/runner/app.ts'
import { describeCheckpoint } from '@graft/runner/checkpoint/describe-checkpoint.ts'
import { openEngine } from '@graft/runner/engine/open-engine.ts'
import { openTokenizer } from '@graft/runner/tokenizer/open-tokenizer.ts'
import { sha256 } from '@graft/sdk/format/digest.ts'
import { generateSigningKey, type SigningKey, signJwt } from '@graft/sdk/format/jws.ts'
import type { BaseRecord } from '@graft/sdk/protocol/registry-api.ts'
import { requestHash } from '@graft/sdk/protocol/request-hash.ts'
import type { Frame, GenerateRequest } from '@graft/sdk/protocol/runner-api.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GREEDY } from './helpers/greedy.ts'
import { createTestRegistry, type Published, type TestRegistry } from './helpers/published.ts'
import { type Draft, publishStory, STORY, storyAbsent } from './helpers/story.ts'
import { idsOf } from './helpers/test-runner.ts'

const { prompts } = JSON.parse(
  readFileSync(join(import.meta.dirname, 'fixtures/story-lora/goldens.json'), 'utf8'),
) as { prompts: { tokenIds: number[]; greedy: { tokenIds: number[] } }[] }
const [{ tokenIds, greedy }] = prompts as [(typeof prompts)[0]]

interface StoryRunner extends AsyncDisposable {
  /** Of the disk tier. */
  folder: string
  key: SigningKey
  runner: Runner
  registry: TestRegistry
  base: BaseRecord
  call(adapter: Published | null, change?: Partial<GenerateRequest>): Promise<Frame[]>
  /** Stops it and leaves its state. */
  close(): Promise<void>
}

/** A runner on the real engine, over a registry in memory; a second one may start on the state of a first. */
async function openStoryRunner(
  precision: 'fp32' | 'int8',
  earlier?: { folder: string; registry: TestRegistry; key: SigningKey },
): Promise<StoryRunner> {
  const folder = earlier?.folder ?? (await mkdtemp(join(tmpdir(), 'graft-admission-')))
  const base = await describeCheckpoint(STORY)
  const engine = await openEngine({ checkpointDir: STORY, precision })
  const registry = earlier?.registry ?? createTestRegistry()
  const key = earlier?.key ?? (await generateSigningKey())
  const fleetKey = await generateSigningKey()
  const runner = createRunner({
    id: 'r1',
    engine,
    codec: await openTokenizer(STORY, engine.info.vocab),
    baseTensors: base.tensors,
    registry,
    cacheFolder: folder,
    key,
    fleetKeys: [fleetKey.publicJwk],
    clock: () => new Date(),
  })
  expect(engine.info.base.digest).toBe(base.digest)
  const close = async (): Promise<void> => {
    await runner[Symbol.asyncDispose]()
    await engine[Symbol.asyncDispose]()
  }
  return {
    folder,
    key,
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
    close,
    async [Symbol.asyncDispose]() {
      await close()
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

/** What no goldens are needed for: bytes that could only do harm, or nothing. */
const HOSTILE: [string, string, RegExp, (draft: Draft) => void][] = [
  [
    'NaN among the weights',
    'ERR_WEIGHTS_NON_FINITE',
    /^tensor model\.layers\.0\.self_attn\.q_proj::lora\.B: element 7 must be "?finite in f32"?, got "?NaN/,
    (draft) => fillB(draft, (values) => values.with(7, Number.NaN)),
  ],
  [
    'an infinity among the weights',
    'ERR_WEIGHTS_NON_FINITE',
    /: element 0 must be "?finite in f32"?, got "?-Infinity/,
    (draft) => fillB(draft, (values) => values.with(0, Number.NEGATIVE_INFINITY)),
  ],
  [
    'finite weights of 3e37 that overflow in the sums',
    'ERR_ADMISSION_FAILED',
    /^goldens: prompt 0: adapted logits must be finite, and the adapter's weights overflow/,
    (draft) => fillB(draft, (values) => values.fill(3e37)),
  ],
  [
    'an update that is zero everywhere',
    'ERR_ZERO_EFFECT',
    /^none of the \d+ operations changes the base/,
    (draft) => fillB(draft, (values) => values.fill(0)),
  ],
]

/** Changes every B of the draft. */
function fillB(draft: Draft, change: (values: Float32Array) => Float32Array): void {
  for (const op of draft.manifest.operations) {
    if (op.op !== 'low_rank') throw new Error(`${op.op} is not expected here`)
    const tensor = draft.tensors.get(op.slots.B)!
    tensor.values = change(tensor.values)
  }
}

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

  it.each(HOSTILE)('refuses %s with %s', async (_, code, message, sabotage) => {
    const adapter = await publishStory(t.base, sabotage)
    t.registry.add(adapter)
    await expect(t.call(adapter)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
    const held = t.runner.status().residency.find(({ digest }) => digest === adapter.digest)
    expect(held?.tier).not.toBe('bank')
    // Its neighbours, and the base, are as they were.
    expect(idsOf(await t.call(null))).toHaveLength(6)
  })

  it('refuses another adapter’s bytes under this digest', async () => {
    // Bytes of its own, or the disk tier would have them already.
    const adapter = await publishStory(t.base, (draft) => {
      for (const { values } of draft.tensors.values()) values[0]! += 1e-6
    })
    const swapped = await publishStory(t.base, other)
    t.registry.add(adapter)
    t.registry.replace(adapter.file, swapped.blobs.get(swapped.file)!)
    await expect(t.call(adapter)).rejects.toMatchObject({
      code: 'ERR_DIGEST_MISMATCH',
      message: expect.stringMatching(/^blob from the registry must be .* nothing was loaded$/),
    })
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

describe.skipIf(storyAbsent)('a stale cache after a restart', () => {
  const variant = (name: string) => (draft: Draft) => {
    draft.manifest.description = name
    if (name === 'b') other(draft)
  }
  const hex = (digest: string) => digest.slice('sha256:'.length)
  const blobPath = (folder: string, digest: string) =>
    join(folder, 'blobs', hex(digest).slice(0, 2), hex(digest))
  /** Puts one file of the disk tier in the place of another, as a bug in an index or a careless copy would. */
  const confuse = async (from: string, to: string) => {
    await mkdir(dirname(to), { recursive: true })
    await copyFile(from, to)
  }

  /** A runner that answered with `a`; its state then confuses a with b, and a second runner starts on it. */
  async function restartWith(
    confusion: (folder: string, a: Published, b: Published) => Promise<void>,
  ) {
    const first = await openStoryRunner('fp32')
    const a = await publishStory(first.base, variant('a'))
    const b = await publishStory(first.base, variant('b'))
    first.registry.add(a)
    first.registry.add(b)
    const right = idsOf(await first.call(a))
    await expect(first.call(b)).rejects.toMatchObject({ code: 'ERR_ADMISSION_FAILED' })
    await expect
      .poll(() => Promise.all([a, b].map(({ file }) => stat(blobPath(first.folder, file)))))
      .toHaveLength(2)
    await first.close()
    await confusion(first.folder, a, b)
    first.registry.asked.length = 0
    const second = await openStoryRunner('fp32', first)
    return { second, right, a, b }
  }

  it('with another adapter’s tensors under this digest is fetched again, and answers right', async () => {
    const { second, right, a } = await restartWith((folder, one, two) =>
      confuse(blobPath(folder, two.file), blobPath(folder, one.file)),
    )
    await using _ = second
    expect(idsOf(await second.call(a))).toEqual(right)
    expect(second.registry.asked).toContain(`/v1/blobs/${a.file}`)
  })

  it('with another adapter’s record under this digest is fetched again, and answers right', async () => {
    const note = (folder: string, { digest }: Published) =>
      join(folder, 'records', encodeURIComponent(digest))
    const { second, right, a } = await restartWith((folder, one, two) =>
      confuse(note(folder, two), note(folder, one)),
    )
    await using _ = second
    expect(idsOf(await second.call(a))).toEqual(right)
    expect(second.registry.asked).toContain(`/v1/manifests/${a.digest}`)
  })

  it('with the admission of another adapter admits nothing: the goldens run again', async () => {
    const { second, b } = await restartWith(async (folder, _, two) => {
      const notes = join(folder, 'admissions')
      const [mine, ...rest] = await readdir(notes)
      // The refused adapter has none; it is given the other's under every name that it could be looked up by.
      expect(rest).toEqual([])
      const engine = await openEngine({ checkpointDir: STORY, precision: 'fp32' })
      const { base, build } = engine.info
      await engine[Symbol.asyncDispose]()
      const name = `${await sha256(`${two.digest}\n${base.digest}\n${build}`)}.json`
      await confuse(join(notes, mine!), join(notes, encodeURIComponent(name)))
    })
    await using _ = second
    await expect(second.call(b)).rejects.toMatchObject({
      code: 'ERR_ADMISSION_FAILED',
      message: expect.stringMatching(/^goldens: prompt 0: adapted logits must be within/),
    })
  })
})
