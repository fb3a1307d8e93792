import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createRunner } from '@graft/runner/app.ts'
import { describeCheckpoint } from '@graft/runner/checkpoint/describe-checkpoint.ts'
import { createMergingEngine } from '@graft/runner/engine/merged/merging-engine.ts'
import { openMergedEngine } from '@graft/runner/engine/merged/open-merged.ts'
import { openEngine } from '@graft/runner/engine/open-engine.ts'
import { createTrafficWindow } from '@graft/runner/merging/traffic.ts'
import { generateSigningKey } from '@graft/sdk/format/jws.ts'
import { readSafetensors } from '@graft/sdk/format/safetensors.ts'
import { requestHash } from '@graft/sdk/protocol/request-hash.ts'
import type { GenerateRequest, MergeStatus, RunnerStatus } from '@graft/sdk/protocol/runner-api.ts'
import { afterEach, describe, expect, it } from 'vitest'
import { DENSE, publishDense, readDenseFacts } from '../helpers/dense-adapters.ts'
import { createFleetCaller, framesOf, receiptOf } from '../helpers/fleet-caller.ts'
import { GREEDY } from '../helpers/greedy.ts'
import { createTestRegistry, type Published } from '../helpers/published.ts'
import { idsOf, letters } from '../helpers/test-runner.ts'

const FORM_BYTES = 1_000
const { prompts } = await readDenseFacts()
const goldens = readSafetensors(
  new Uint8Array(await readFile(join(DENSE, 'goldens.safetensors'))),
).tensors

/** The token that PEFT would choose after the first prompt. */
function firstToken(name: string): number {
  const { data } = goldens.get(`${name}.0`)!
  const logits = new Float32Array(data.slice().buffer)
  const last = logits.subarray(logits.length - 64)
  return last.indexOf(Math.max(...last))
}

/** A runner on the real engine over the base of the dense fixtures. @param forms how many merged bases fit; null = it does not merge */
async function openRunner(forms: number | null) {
  const folder = await mkdtemp(join(tmpdir(), 'graft-merged-only-'))
  const base = await describeCheckpoint(join(DENSE, 'base'), 'dense')
  const opened = { checkpointDir: join(DENSE, 'base'), baseDigest: base.digest, slots: 4 }
  const plain = await openEngine(opened)
  const merging =
    forms === null
      ? null
      : createMergingEngine({
          base: plain,
          openMerged: (adapter) => openMergedEngine(opened, adapter),
          formBytes: FORM_BYTES,
          budgetBytes: forms * FORM_BYTES,
        })
  const engine = merging ?? plain
  const registry = createTestRegistry()
  const [key, fleetKey] = [await generateSigningKey(), await generateSigningKey()]
  const traffic = createTrafficWindow(60_000)
  const runner = createRunner({
    ...{ id: 'r1', engine, codec: letters, baseTensors: base.tensors, registry, key },
    cacheFolder: folder,
    fleetKeys: [fleetKey.publicJwk],
    clock: () => new Date(),
    ...(merging ? { merging: { engine: merging, traffic, auto: null, rebuildMs: 1 } } : {}),
  })
  const { ask } = createFleetCaller(() => runner, fleetKey)
  return {
    runner,
    ask,
    async publish(name: string, proof?: string): Promise<Published> {
      const published = await publishDense(base, name, proof)
      registry.add(published)
      return published
    },
    async call(adapters: Published[], change: Partial<GenerateRequest> = {}, weight = '1') {
      const body: GenerateRequest = {
        ...{ requestId: 'req_1', requestHash: base.digest, tenant: 'acme', base: base.digest },
        adapters: adapters.map((adapter) => ({ ...pullOf(adapter), weight })),
        prompt: { kind: 'tokens', tokenIds: prompts[0]! },
        ...{ sampling: GREEDY, maxTokens: 4, n: 1, deadline: null },
        ...change,
      }
      const sent = { ...body, requestHash: await requestHash(body) }
      const frames = await framesOf(await ask('POST', '/v1/generate', sent))
      return { ids: idsOf(frames), receipt: await receiptOf(frames, key) }
    },
    status: async () => (await (await ask('GET', '/v1/merges')).json()) as MergeStatus,
    async close() {
      await runner[Symbol.asyncDispose]()
      await engine[Symbol.asyncDispose]()
      await rm(folder, { recursive: true })
    },
  }
}

const pullOf = ({ digest, manifest }: Published) => ({
  digest,
  weight: '1',
  label: `${manifest.name}@1.0.0`,
  capability: null,
})

describe('an adapter that no batch can run', () => {
  let t: Awaited<ReturnType<typeof openRunner>>
  afterEach(() => t.close())

  it('is served through a merged base, which its goldens prove first', async () => {
    t = await openRunner(1)
    const oft = await t.publish('oft')
    const { ids, receipt } = await t.call([oft])
    expect(ids[0]).toBe(firstToken('oft'))
    expect(firstToken('oft')).not.toBe(firstToken('base'))
    expect(receipt).toMatchObject({ mergeState: 'merged', adapters: [{ digest: oft.digest }] })
    expect((await t.call([])).ids[0]).toBe(firstToken('base'))
    expect(await t.status()).toMatchObject({ room: 0, forms: [{ digest: oft.digest }] })
    const status = (await (await t.ask('GET', '/v1/status')).json()) as RunnerStatus
    expect(status.operations).toContain('dense')
    expect(status.residency).toContainEqual(
      expect.objectContaining({ digest: oft.digest, tier: 'bank' }),
    )
    const again = await t.call([oft])
    expect(again.ids).toEqual(ids)
  })

  it('takes the place of another that nobody uses, and comes back when it is asked for again', async () => {
    t = await openRunner(1)
    const [boft, fourier] = [await t.publish('boft-butterfly'), await t.publish('fourierft')]
    for (const [adapter, name] of [
      [boft, 'boft-butterfly'],
      [fourier, 'fourierft'],
      [boft, 'boft-butterfly'],
    ] as const) {
      const { ids, receipt } = await t.call([adapter])
      expect([ids[0], receipt.mergeState]).toEqual([firstToken(name), 'merged'])
      expect((await t.status()).forms.map(({ digest }) => digest)).toEqual([adapter.digest])
    }
  })

  it('shares one build among all who ask at once, beside adapters in batches', async () => {
    t = await openRunner(2)
    const [whole, loha, oft] = [
      await t.publish('lokr-whole'),
      await t.publish('loha'),
      await t.publish('oft-exact'),
    ]
    const calls = [whole, loha, oft, whole, loha, oft, whole].map((adapter) => t.call([adapter]))
    const answers = await Promise.all(calls)
    const want = ['lokr-whole', 'loha', 'oft-exact'].map(firstToken)
    expect(answers.map(({ ids }) => ids[0])).toEqual(
      [...want, ...want, ...want].slice(0, calls.length),
    )
    expect(answers.map(({ receipt }) => receipt.mergeState)).toEqual(
      [...'mbmmbmm'].map((state) => (state === 'm' ? 'merged' : 'banked')),
    )
    expect((await t.status()).forms).toHaveLength(2)
  })

  it('is taken out when an operator asks, and built again for the next call', async () => {
    t = await openRunner(1)
    const oft = await t.publish('oft-shared')
    await t.call([oft])
    expect((await t.ask('DELETE', `/v1/merges/${oft.digest}`)).status).toBe(200)
    expect((await t.status()).forms).toEqual([])
    const { ids, receipt } = await t.call([oft])
    expect([ids[0], receipt.mergeState]).toEqual([firstToken('oft-shared'), 'merged'])
  })

  it('is refused when its goldens are not reproduced, and leaves nothing behind', async () => {
    t = await openRunner(1)
    const oft = await t.publish('oft', 'oft-terms-3')
    await expect(t.call([oft])).rejects.toMatchObject({
      code: 'ERR_ADMISSION_FAILED',
      message: expect.stringMatching(/^goldens: prompt 0: adapted logits must be within 0.0001/),
    })
    expect(await t.status()).toMatchObject({ room: 1, forms: [] })
    const right = await t.publish('boft')
    expect((await t.call([right])).ids[0]).toBe(firstToken('boft'))
  })

  it('stands in no sum and has no weight', async () => {
    t = await openRunner(1)
    const [oft, loha] = [await t.publish('oft'), await t.publish('loha')]
    for (const call of [t.call([oft], {}, '0.5'), t.call([oft, loha], {}, '1')])
      await expect(call).rejects.toMatchObject({
        code: 'ERR_NOT_COMPOSABLE',
        message: expect.stringContaining('dense at model.layers.0'),
      })
  })

  it('is refused by a runner that does not merge, with the option that serves it', async () => {
    t = await openRunner(null)
    const [oft, loha, lokr] = [
      await t.publish('oft'),
      await t.publish('loha'),
      await t.publish('lokr'),
    ]
    await expect(t.call([oft])).rejects.toMatchObject({
      code: 'ERR_OPERATION_UNSUPPORTED',
      message: expect.stringMatching(/^@peft\/oft@1\.0\.0 needs dense at .*--merge request, auto/),
    })
    // Small exact factors need no merging, and add up like any low rank update.
    const { ids, receipt } = await t.call([loha])
    expect([ids[0], receipt.mergeState]).toEqual([firstToken('loha'), 'banked'])
    expect((await t.call([loha, lokr], {}, '0.5')).receipt.mergeState).toBe('banked')
  })
})
