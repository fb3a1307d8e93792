import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { generateSigningKey, signEnvelope } from '@graft/sdk/format/jws.ts'
import type { AdapterPull } from '@graft/sdk/protocol/runner-api.ts'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { eventually } from './helpers/eventually.ts'
import { type Published, publish } from './helpers/published.ts'
import { idsOf, startTestRunner, type TestRunner } from './helpers/test-runner.ts'

let t: TestRunner
const others: TestRunner[] = []
beforeEach(async () => {
  t = await startTestRunner()
})
afterEach(async () => {
  for (const runner of [t, ...others.splice(0)]) await runner.close()
})

const pull = (published: Published, change: Partial<AdapterPull> = {}): AdapterPull => ({
  digest: published.digest,
  weight: '1',
  label: `${published.manifest.name}@1.0.0`,
  capability: null,
  ...change,
})
const add = async (shift: number, change: object = {}): Promise<Published> => {
  const published = await publish({ base: t.base, shift, name: `@acme/s${shift}`, ...change })
  t.registry.add(published)
  return published
}
/** A second start of the same runner: its key, its folder, another engine. */
const restart = async (deps: object = {}): Promise<TestRunner> => {
  const again = await startTestRunner({
    registry: t.registry,
    deps: { key: t.key, cacheFolder: t.deps.cacheFolder, ...deps },
  })
  others.push(again)
  return again
}
const tierOf = (runner: TestRunner, published: Published) =>
  runner.runner.status().residency.find(({ digest }) => digest === published.digest)?.tier
/** Waits until the disk tier, which nobody waits for, has the adapter and nothing half written. */
const keptOnDisk = async (published: Published): Promise<void> => {
  await expect
    .poll(
      async () => {
        const files = await readdir(t.deps.cacheFolder, { recursive: true })
        const kept = files.some((file) => file.endsWith(published.file.slice('sha256:'.length)))
        return kept && !files.some((file) => file.endsWith('.tmp'))
      },
      { interval: 5, timeout: 30_000 },
    )
    .toBe(true)
}
/** A gauge of the runner's metrics. */
const gauge = async (runner: TestRunner, name: string): Promise<number> => {
  const text = await (await runner.runner.fetch(new Request('http://runner/metrics'))).text()
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1])
}
const refusal = (code: string, message: RegExp) => ({
  code,
  message: expect.stringMatching(message),
})

describe('tiers', () => {
  it('pull an adapter once, and then answer from the bank', async () => {
    const a = await add(4)
    await t.frames({ adapters: [pull(a)] })
    expect(tierOf(t, a)).toBe('bank')
    const asked = t.registry.asked.length
    await t.frames({ adapters: [pull(a)] })
    expect(t.registry.asked).toHaveLength(asked)
    expect(t.engine.events.filter((e) => e.startsWith('load'))).toHaveLength(1)
  })

  it('share one load among requests for the same digest', async () => {
    const a = await add(4)
    await Promise.all(Array.from({ length: 8 }, () => t.frames({ adapters: [pull(a)] })))
    expect(t.registry.asked.filter((path) => path.endsWith(a.file))).toHaveLength(1)
    expect(t.registry.asked.filter((path) => path.endsWith(a.digest))).toHaveLength(1)
  })

  it('do not let one slow download hold up others', async () => {
    const [slow, quick] = [await add(4), await add(5)]
    let open = () => {}
    t.registry.hold.set(`/v1/blobs/${slow.file}`, new Promise<void>((resolve) => (open = resolve)))
    let slowDone = false
    const waiting = t.frames({ adapters: [pull(slow)] }).then(() => (slowDone = true))
    await t.frames({ adapters: [pull(quick)] })
    await t.frames({})
    expect(slowDone).toBe(false)
    open()
    await waiting
  })

  it('go on for the others when the one who asked first leaves', async () => {
    const a = await add(4)
    let open = () => {}
    t.registry.hold.set(`/v1/blobs/${a.file}`, new Promise<void>((resolve) => (open = resolve)))
    const leaving = new AbortController()
    const first = t.post('/v1/generate', await t.request({ adapters: [pull(a)] }), leaving.signal)
    await eventually(() => t.registry.asked.length).toBeGreaterThan(1)
    const second = t.frames({ adapters: [pull(a)] })
    await new Promise((resolve) => setTimeout(resolve, 500))
    leaving.abort()
    expect((await first).status).toBe(499)
    open()
    expect(idsOf(await second)).toHaveLength(4)
    expect(t.registry.asked.filter((path) => path.endsWith(a.file))).toHaveLength(1)
  })

  it('keep an adapter on disk over a restart, and need no registry then', async () => {
    const a = await add(4)
    const before = await t.frames({ adapters: [pull(a)] })
    await keptOnDisk(a)
    const asked = t.registry.asked.length
    const again = await restart()
    await eventually(() => tierOf(again, a)).toBe('disk')
    expect(idsOf(await again.frames({ adapters: [pull(a)] }))).toEqual(idsOf(before))
    expect(t.registry.asked).toHaveLength(asked)
  })

  it('never use a file that was damaged on disk: it is pulled again', async () => {
    const a = await add(4)
    await t.frames({ adapters: [pull(a)] })
    await keptOnDisk(a)
    const hex = a.file.slice('sha256:'.length)
    const path = join(t.deps.cacheFolder, 'blobs', hex.slice(0, 2), hex)
    const bytes = await readFile(path)
    bytes[bytes.length - 1]! ^= 1
    await writeFile(path, bytes)
    const again = await restart()
    await again.frames({ adapters: [pull(a)] })
    expect(t.registry.asked.filter((asked) => asked.endsWith(a.file))).toHaveLength(2)
    await keptOnDisk(a)
    expect(await readFile(path)).not.toEqual(bytes)
  })

  it('leave no temporary file behind', async () => {
    const a = await add(4)
    await t.frames({ adapters: [pull(a)] })
    await keptOnDisk(a)
    const files = await readdir(t.deps.cacheFolder, { recursive: true })
    expect(files.length).toBeGreaterThan(3)
    expect(files.filter((file) => file.endsWith('.tmp'))).toEqual([])
  })

  it('evict the least recently used when the bank is full, never one in use', async () => {
    // Each adapter takes 32 bytes: two fit.
    const small = await startTestRunner({ info: { bankBudgetBytes: 70 }, registry: t.registry })
    others.push(small)
    const [a, b, c] = [await add(4), await add(5), await add(6)]
    await small.frames({ adapters: [pull(a)] })
    await small.frames({ adapters: [pull(b)] })
    await small.frames({ adapters: [pull(a)] })
    await small.frames({ adapters: [pull(c)] })
    expect([a, b, c].map((p) => tierOf(small, p))).toEqual(['bank', 'host', 'bank'])
    small.engine.delayMs = 3
    const running = small.frames({ adapters: [pull(a)], maxTokens: 150 })
    await eventually(() => small.runner.status().running).toBe(1)
    await small.frames({ adapters: [pull(b)] })
    expect([a, b, c].map((p) => tierOf(small, p))).toEqual(['bank', 'bank', 'host'])
    expect(idsOf(await running)).toHaveLength(150)
  })

  it('let a request wait for the bank when all of it is in use', async () => {
    const tiny = await startTestRunner({ info: { bankBudgetBytes: 40 }, registry: t.registry })
    others.push(tiny)
    const [a, b] = [await add(4), await add(5)]
    tiny.engine.delayMs = 3
    const first = tiny.frames({ adapters: [pull(a)], maxTokens: 150 })
    await eventually(() => tiny.runner.status().running).toBe(1)
    const second = tiny.frames({ adapters: [pull(b)] })
    expect(idsOf(await first)).toHaveLength(150)
    expect(idsOf(await second)).toHaveLength(4)
  })

  it('refuse an adapter that is larger than all of the bank, and do not empty the bank for it again', async () => {
    const tiny = await startTestRunner({ info: { bankBudgetBytes: 31 }, registry: t.registry })
    others.push(tiny)
    const a = await add(4)
    for (let i = 0; i < 2; i++)
      await expect(tiny.frames({ adapters: [pull(a)] })).rejects.toMatchObject({
        code: 'ERR_BANK_FULL',
      })
    expect(await gauge(tiny, 'graft_host_bytes')).toBeGreaterThan(0)
    expect(tiny.engine.events).toEqual([])
  })

  it('fetch for a request while it still waits for a slot', async () => {
    const busy = await startTestRunner({ info: { slots: 1 }, registry: t.registry })
    others.push(busy)
    const c = await add(6)
    busy.engine.delayMs = 5
    const running = busy.frames({ maxTokens: 150 })
    await eventually(() => busy.runner.status().running).toBe(1)
    busy.engine.events.length = 0
    // Unproven adapters need the slot for their goldens; what is to be seen here is the way into the bank.
    const waiting = busy.frames({ adapters: [pull(c)] })
    await eventually(() => busy.engine.events).toContain(`load ${c.digest}`)
    expect(busy.runner.status().running).toBe(1)
    expect(busy.engine.events.filter((e) => e.startsWith('open'))).toEqual([])
    expect(idsOf(await running)).toHaveLength(150)
    expect(idsOf(await waiting)).toHaveLength(4)
  })

  it('leave nothing behind when the only one who asked leaves during the download', async () => {
    const a = await add(4)
    t.registry.hold.set(`/v1/blobs/${a.file}`, new Promise<void>(() => {}))
    const leaving = new AbortController()
    const asked = t.post('/v1/generate', await t.request({ adapters: [pull(a)] }), leaving.signal)
    await eventually(() => t.registry.asked.at(-1)).toMatch(a.file)
    expect(await gauge(t, 'graft_host_bytes')).toBeGreaterThan(0)
    leaving.abort()
    expect((await asked).status).toBe(499)
    await expect.poll(() => gauge(t, 'graft_host_bytes')).toBe(0)
    expect(t.engine.bank.size).toBe(0)
    const files = await readdir(t.deps.cacheFolder, { recursive: true })
    expect(files.filter((file) => file.includes('tmp') || file.includes('blobs'))).toEqual([])
    t.registry.hold.clear()
    expect(idsOf(await t.frames({ adapters: [pull(a)] }))).toHaveLength(4)
  })

  it('keep every budget while many adapters come and go at once', async () => {
    const limits = { hostBytes: 20_000, diskBytes: 40_000 }
    const small = await startTestRunner({
      info: { bankBudgetBytes: 100 },
      registry: t.registry,
      deps: { limits },
    })
    others.push(small)
    const all = await Promise.all(Array.from({ length: 12 }, (_, i) => add(3 + i)))
    const most = { host: 0, disk: 0, bank: 0 }
    let done = false
    const watching = (async () => {
      while (!done) {
        most.host = Math.max(most.host, await gauge(small, 'graft_host_bytes'))
        most.disk = Math.max(most.disk, await gauge(small, 'graft_disk_bytes'))
        most.bank = Math.max(most.bank, small.engine.bank.size)
        await new Promise((resolve) => setImmediate(resolve))
      }
    })()
    for (let round = 0; round < 2; round++)
      await Promise.all(all.map((a) => small.frames({ adapters: [pull(a)] })))
    done = true
    await watching
    expect(most.host).toBeLessThanOrEqual(limits.hostBytes)
    expect(most.disk).toBeLessThanOrEqual(limits.diskBytes)
    // 32 bytes each.
    expect(most.bank).toBeLessThanOrEqual(3)
    expect(most.host).toBeGreaterThan(limits.hostBytes / 2)
  })

  it('swap a version in one step: what runs keeps its bytes, what comes gets the new ones', async () => {
    const v1 = await add(4)
    const v2 = await publish({ base: t.base, shift: 9, name: v1.manifest.name })
    t.registry.add(v2)
    const alone = [
      await t.frames({ adapters: [pull(v1)], maxTokens: 60 }),
      await t.frames({ adapters: [pull(v2)], maxTokens: 60 }),
    ].map((frames) => idsOf(frames))
    expect(alone[0]).not.toEqual(alone[1])
    // Room for two: nothing of a third may push out what runs.
    const tight = await startTestRunner({
      info: { bankBudgetBytes: 70 },
      registry: t.registry,
      deps: { key: t.key },
    })
    others.push(tight)
    tight.engine.delayMs = 5
    const old = tight.frames({ adapters: [pull(v1)], maxTokens: 60 })
    await eventually(() => tight.runner.status().running).toBe(1)
    const [before, after] = await Promise.all([
      old,
      tight.frames({ adapters: [pull(v2)], maxTokens: 60 }),
    ])
    expect(idsOf(before)).toEqual(alone[0])
    expect(idsOf(after)).toEqual(alone[1])
  })

  it('start with a prefetch, so that the call finds the adapter', async () => {
    const a = await add(4)
    expect((await t.post('/v1/adapters/prefetch', [pull(a)])).status).toBe(200)
    await eventually(() => tierOf(t, a)).toBe('bank')
  })

  it('do not hold one caller’s missing right against another who shares the load', async () => {
    const a = await add(4)
    t.registry.rights.set(a.digest, 'mine')
    let open = () => {}
    const path = `/v1/manifests/${a.digest}`
    t.registry.hold.set(path, new Promise<void>((resolve) => (open = resolve)))
    const first = t.frames({ adapters: [pull(a)] })
    await eventually(() => t.registry.asked.length).toBe(1)
    const second = t.frames({ adapters: [pull(a, { capability: 'mine' })] })
    await new Promise((resolve) => setTimeout(resolve, 500))
    open()
    const [without, having] = await Promise.allSettled([first, second])
    expect(without).toMatchObject({ status: 'rejected', reason: { code: 'ERR_FORBIDDEN' } })
    expect(having.status).toBe('fulfilled')
  })
})

describe('what a runner refuses to load', () => {
  it('bytes that are not those of the digest', async () => {
    const a = await add(4)
    const bytes = a.blobs.get(a.file)!.slice()
    bytes[bytes.length - 1]! ^= 1
    t.registry.replace(a.file, bytes)
    await expect(t.frames({ adapters: [pull(a)] })).rejects.toMatchObject({
      code: 'ERR_DIGEST_MISMATCH',
    })
    expect(t.engine.bank.size).toBe(0)
  })

  it('a manifest under another digest', async () => {
    const [a, b] = [await add(4), await add(5)]
    t.registry.add({ ...b, digest: a.digest })
    await expect(t.frames({ adapters: [pull(a)] })).rejects.toMatchObject({
      code: 'ERR_DIGEST_MISMATCH',
    })
  })

  it('a signature by a key that the registry does not name, or that was revoked', async () => {
    const a = await add(4)
    const stranger = await generateSigningKey()
    const payload = Uint8Array.from(
      atob(a.record.envelope.payload.replaceAll('-', '+').replaceAll('_', '/')),
      (c) => c.charCodeAt(0),
    )
    const envelope = await signEnvelope(payload, 'graft-manifest+jws', [stranger])
    t.registry.add({ ...a, record: { ...a.record, envelope } })
    await expect(t.frames({ adapters: [pull(a)] })).rejects.toMatchObject({
      code: 'ERR_KEY_UNKNOWN',
    })
    const keys = a.record.keys.map((key) => ({ ...key, status: 'revoked' as const }))
    t.registry.add({ ...a, record: { ...a.record, keys } })
    await expect(t.frames({ adapters: [pull(a)] })).rejects.toMatchObject({
      code: 'ERR_KEY_REVOKED',
    })
  })

  it('a signature that does not fit', async () => {
    const a = await add(4)
    const [signed] = a.record.envelope.signatures
    const bad = `${signed!.signature[0] === 'A' ? 'B' : 'A'}${signed!.signature.slice(1)}`
    const signatures = [{ ...signed!, signature: bad }]
    t.registry.add({
      ...a,
      record: { ...a.record, envelope: { ...a.record.envelope, signatures } },
    })
    await expect(t.frames({ adapters: [pull(a)] })).rejects.toMatchObject({
      code: 'ERR_SIGNATURE_INVALID',
    })
  })

  it('an adapter of another base', async () => {
    const identity = { ...t.base.identity, name: 'other' }
    const a = await publish({ base: { ...t.base, identity }, shift: 4 })
    t.registry.add(a)
    await expect(t.frames({ adapters: [pull(a)] })).rejects.toMatchObject(
      refusal('ERR_BASE_MISMATCH', /made for base scripted .* got other/),
    )
  })

  it('an operation that its engine does not have', async () => {
    const plain = await startTestRunner({ info: { operations: ['scale'] }, registry: t.registry })
    others.push(plain)
    const a = await add(4)
    await expect(plain.frames({ adapters: [pull(a)] })).rejects.toMatchObject(
      refusal('ERR_OPERATION_UNSUPPORTED', /low_rank at model\.layers\.0\.self_attn\.q_proj/),
    )
  })

  it('an adapter that nobody has', async () => {
    const a = await publish({ base: t.base, shift: 4 })
    await expect(t.frames({ adapters: [pull(a)] })).rejects.toMatchObject({
      code: 'ERR_VERSION_UNKNOWN',
    })
  })

  it('the same adapter twice in one sum', async () => {
    const a = await add(4)
    await expect(t.frames({ adapters: [pull(a), pull(a)] })).rejects.toMatchObject({
      code: 'ERR_REQUEST_INVALID',
    })
  })
})

describe('admission', () => {
  it('refuses an adapter whose goldens it cannot reproduce, and takes it out of the bank', async () => {
    const a = await add(4, { goldenShift: 9 })
    await expect(t.frames({ adapters: [pull(a)] })).rejects.toMatchObject(
      refusal('ERR_ADMISSION_FAILED', /^goldens: prompt 0: adapted logits must be within 0\.0001/),
    )
    expect(t.engine.bank.size).toBe(0)
    await eventually(() => tierOf(t, a)).toBe('disk')
    const steps = t.engine.steps.length
    await expect(t.frames({ adapters: [pull(a)] })).rejects.toMatchObject({
      code: 'ERR_ADMISSION_FAILED',
    })
    // The refusal stands for a minute: insisting costs no engine time.
    expect(t.engine.steps).toHaveLength(steps)
  })

  it('refuses goldens that show no effect: they would admit anything', async () => {
    const a = await add(47, { goldenShift: 0 })
    await expect(t.frames({ adapters: [pull(a)] })).rejects.toMatchObject(
      refusal('ERR_ADMISSION_FAILED', /no prompt shows an effect/),
    )
  })

  it('takes no more memory for goldens than there is for them', async () => {
    const a = await add(4)
    const small = await startTestRunner({
      registry: t.registry,
      // An eighth is for goldens, and these take more than 800 bytes.
      deps: { limits: { hostBytes: 6_400 } },
    })
    others.push(small)
    await expect(small.frames({ adapters: [pull(a)] })).rejects.toMatchObject(
      refusal('ERR_BANK_FULL', /the logits of goldens in host memory must be "?at most 800 bytes/),
    )
    expect(t.registry.asked.filter((path) => path.startsWith('/v1/blobs'))).toHaveLength(1)
  })

  it('without goldens refuses, unless the policy allows what is unproven', async () => {
    const a = await add(4, { goldenShift: null })
    await expect(t.frames({ adapters: [pull(a)] })).rejects.toMatchObject(
      refusal('ERR_ADMISSION_FAILED', /--policy allow-unproven/),
    )
    const lenient = await startTestRunner({
      registry: t.registry,
      deps: { policy: 'allow-unproven' },
    })
    others.push(lenient)
    expect(idsOf(await lenient.frames({ adapters: [pull(a)] }))).toHaveLength(4)
  })

  it('does not let a lenient start’s result through under the strict policy', async () => {
    const a = await add(4, { goldenShift: null })
    const lenient = await restart({ policy: 'allow-unproven' })
    await lenient.frames({ adapters: [pull(a)] })
    await expect(t.frames({ adapters: [pull(a)] })).rejects.toMatchObject({
      code: 'ERR_ADMISSION_FAILED',
    })
  })

  const goldenSteps = (runner: TestRunner) =>
    runner.engine.steps.flat().filter(({ logits }) => logits === 'all').length

  it('runs the goldens once per adapter, base and build: over calls, callers and restarts', async () => {
    const a = await add(4)
    await Promise.all(Array.from({ length: 4 }, () => t.frames({ adapters: [pull(a)] })))
    expect(goldenSteps(t)).toBe(2)
    const again = await restart()
    await again.frames({ adapters: [pull(a)] })
    expect(goldenSteps(again)).toBe(0)
    const upgraded = await startTestRunner({
      info: { build: 'scripted@2' },
      registry: t.registry,
      deps: { key: t.key, cacheFolder: t.deps.cacheFolder },
    })
    others.push(upgraded)
    await upgraded.frames({ adapters: [pull(a)] })
    expect(goldenSteps(upgraded)).toBe(2)
  })

  it('believes a result on disk only with its own signature', async () => {
    const a = await add(4)
    await t.frames({ adapters: [pull(a)] })
    const folder = join(t.deps.cacheFolder, 'admissions')
    const [name] = await readdir(folder)
    const envelope = JSON.parse(await readFile(join(folder, name!), 'utf8'))
    const stranger = await restart({ key: await generateSigningKey() })
    await stranger.frames({ adapters: [pull(a)] })
    expect(goldenSteps(stranger)).toBe(2)
    await writeFile(join(folder, name!), JSON.stringify({ ...envelope, payload: 'e30' }))
    const again = await restart()
    await again.frames({ adapters: [pull(a)] })
    expect(goldenSteps(again)).toBe(2)
  })

  it('sums adapters by weight', async () => {
    const [a, b] = [await add(4), await add(5)]
    const frames = await t.frames({ adapters: [pull(a, { weight: '2' }), pull(b)] })
    const c = await add(13)
    expect(idsOf(frames)).toEqual(idsOf(await t.frames({ adapters: [pull(c)] })))
  })
})
