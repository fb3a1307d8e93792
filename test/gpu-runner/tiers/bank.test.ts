import type { LoadedAdapter } from '@graft/runner/engine/engine.ts'
import type { AdapterFacts } from '@graft/runner/tiers/adapter-facts.ts'
import { createBank } from '@graft/runner/tiers/bank.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { describe, expect, it } from 'vitest'

const MIB = 2 ** 20
const digestOf = (digit: string) => `sha256:${digit.repeat(64)}` as Digest
const factsOf = (digest: Digest) =>
  ({ digest, operations: [], runBytes: MIB, f32Bytes: MIB }) as unknown as AdapterFacts
const tensorsOf = (digest: Digest) => async () => ({
  adapter: { digest, operations: [], tensors: new Map() } as LoadedAdapter,
  giveBack() {},
})

/** An engine with room for two adapters whose loads end when they are told to, in order. */
function slowEngine() {
  const inside = new Set<Digest>()
  const under: (() => void)[] = []
  return {
    inside,
    under,
    info: { bankBudgetBytes: 2 * MIB },
    load: ({ digest }: LoadedAdapter) =>
      new Promise<{ bytes: number }>((resolve) =>
        under.push(() => {
          inside.add(digest)
          resolve({ bytes: MIB })
        }),
      ),
    async unload(digest: Digest) {
      inside.delete(digest)
    },
  }
}
const soon = () => new Promise((resolve) => setTimeout(resolve, 5))

describe('the bank', () => {
  it('keeps an adapter that is in use when the load that everybody had left ends after another one', async () => {
    const engine = slowEngine()
    const bank = createBank(engine, { waitMs: 50 })
    const [x, y, z] = ['a', 'b', 'c'].map(digestOf) as [Digest, Digest, Digest]
    const pin = (digest: Digest, signal = new AbortController().signal) =>
      bank.pin(factsOf(digest), tensorsOf(digest), signal)

    // One caller hangs up while its adapter enters the engine; the next one asks for the same.
    const gone = new AbortController()
    const left = pin(x, gone.signal)
    await soon()
    gone.abort(new Error('left'))
    await expect(left).rejects.toThrow('left')
    const next = pin(x)
    await soon()
    engine.under.shift()!()
    await soon()
    const held = await pin(x)
    for (const end of engine.under.splice(0)) end()
    ;(await next)()

    // Others fill the bank: the one in use stays.
    const second = pin(y)
    await soon()
    engine.under.shift()!()
    ;(await second)()
    const third = pin(z)
    await soon()
    engine.under.shift()!()
    await third
    expect([...engine.inside].sort()).toEqual([x, z])
    expect(bank.entries().find(({ digest }) => digest === x)).toMatchObject({ pins: 1 })
    held()
  })

  it('loads again what is asked for while it leaves beside others', async () => {
    const engine = slowEngine()
    const leave: (() => void)[] = []
    const slow = {
      ...engine,
      unload: async (digest: Digest) => {
        await new Promise<void>((resolve) => leave.push(resolve))
        await engine.unload(digest)
      },
    }
    const bank = createBank(slow, { waitMs: 1_000 })
    const [x, y, z] = ['a', 'b', 'c'].map(digestOf) as [Digest, Digest, Digest]
    const pin = (digest: Digest, bytes = MIB) =>
      bank.pin(
        { ...factsOf(digest), runBytes: bytes, f32Bytes: bytes },
        tensorsOf(digest),
        new AbortController().signal,
      )
    for (const digest of [x, y]) {
      const pinned = pin(digest)
      await soon()
      engine.under.shift()!()
      ;(await pinned)()
    }
    await soon()
    // Both must leave for the third; the second of them is asked for before the first is gone.
    const third = pin(z, 2 * MIB)
    await soon()
    expect(leave).toHaveLength(1)
    const again = pin(y)
    await soon()
    leave.shift()!()
    await soon()
    leave.shift()!()
    await soon()
    engine.under.shift()!()
    ;(await third)()
    await soon()
    leave.shift()?.()
    await soon()
    engine.under.shift()!()
    await again
    expect(engine.inside).toContain(y)
  })
})
