import type { AdapterFacts } from '@graft/runner/tiers/adapter-facts.ts'
import { createHostCache } from '@graft/runner/tiers/host-cache.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { describe, expect, it } from 'vitest'

const digestOf = (number: number) => fromHex(number.toString(16).padStart(64, '0'))
const adapterOf = (number: number, bytes: number) => ({
  facts: {
    digest: digestOf(number),
    name: '@acme/x',
    version: '1.0.0',
    base: { name: 'b', digest: digestOf(0) },
    file: { digest: digestOf(number + 100), size: bytes },
    goldens: null,
    operations: [],
    virtualTokens: 0,
    f32Bytes: bytes,
    runBytes: bytes,
  } satisfies AdapterFacts,
  record: new Uint8Array(),
  file: new Uint8Array(bytes),
})
const never = new AbortController().signal
/** Whether a promise has settled once everything that was ready has run. */
const settled = async (work: Promise<unknown>): Promise<boolean> => {
  let done = false
  const mark = () => {
    done = true
  }
  work.then(mark, mark)
  await new Promise((resolve) => setImmediate(resolve))
  return done
}

describe('host memory', () => {
  it('counts what is on its way, and evicts for it before it comes', async () => {
    const host = createHostCache(100)
    ;(await host.claim(60, never)).put(adapterOf(1, 60))
    const claim = await host.claim(70, never)
    // It came first, so it was held until those who had asked for it could take it.
    expect(host.usedBytes).toBe(70)
    expect(host.use(digestOf(1))).toBeNull()
    claim.put(adapterOf(2, 70))
    expect(host.entries()).toEqual([{ digest: digestOf(2), bytes: 70 }])
  })

  it('lets a load wait while what is in use fills it, and gives back what an aborted one had', async () => {
    const host = createHostCache(100)
    ;(await host.claim(60, never)).put(adapterOf(1, 60))
    const held = host.use(digestOf(1))!
    const second = host.claim(50, never)
    expect(await settled(second)).toBe(false)
    held.release()
    ;(await second).cancel()
    expect([host.usedBytes, host.entries()]).toEqual([0, []])
  })

  it('serves those who wait in the order they came: a large one is not passed for ever', async () => {
    const host = createHostCache(100)
    const first = await host.claim(60, never)
    const large = host.claim(90, never)
    const small = host.claim(30, never)
    expect(await settled(small)).toBe(false)
    first.cancel()
    ;(await large).cancel()
    ;(await small).cancel()
    expect(host.usedBytes).toBe(0)
  })

  it('frees the place in the queue of one who leaves', async () => {
    const host = createHostCache(100)
    const first = await host.claim(60, never)
    const leaving = new AbortController()
    const large = host.claim(90, leaving.signal)
    const small = host.claim(30, never)
    leaving.abort(new Error('gone'))
    await expect(large).rejects.toThrow('gone')
    ;(await small).cancel()
    first.cancel()
    expect(host.usedBytes).toBe(0)
  })

  it('refuses at once what can never fit, and after its time what did not', async () => {
    const host = createHostCache(100, { waitMs: 20 })
    await expect(host.claim(101, never)).rejects.toMatchObject({
      code: 'ERR_BANK_FULL',
      message: expect.stringMatching(/an adapter in host memory must be "?at most 100 bytes/),
    })
    const first = await host.claim(100, never)
    await expect(host.claim(1, never)).rejects.toMatchObject({
      code: 'ERR_BANK_FULL',
      retryAfter: 1,
    })
    first.cancel()
    ;(await host.claim(1, never)).cancel()
  })
})
