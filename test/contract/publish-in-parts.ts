import { createRegistryClient } from '@graft/sdk/client/registry-client.ts'
import type { ByteSource } from '@graft/sdk/format/byte-source.ts'
import { expect } from 'vitest'
import { type App, adapter, furnish } from '../registry/fixtures.ts'

/** Bytes of one part, as a registry has it by itself. */
const PART_BYTES = 8 * 1024 * 1024
/** Of the tests' base of width 8: 2 x 8 x 4 bytes a rank make an adapter of 8.45 MB. */
const RANK = 132_000

/**
 * Publishes an adapter of two parts through the client, with a line that breaks after the first, and reads
 * it back. Works wherever the registry runs.
 */
export async function publishInParts(app: { request: App['request'] }): Promise<{
  /** Where parts were sent to. */
  hosts: string[]
}> {
  const { token, key, base } = await furnish(app)
  const what = await adapter({ base, name: '@acme/large', rank: RANK })
  const [digest, bytes] = [...what.files][0]!
  const own = 'http://registry.test'
  const puts: string[] = []
  /** Puts that still arrive; null = all. */
  let budget: number | null = 1
  const client = createRegistryClient({
    url: own,
    token,
    retries: 0,
    async fetch(input, init) {
      const url = String(input)
      if (init?.method === 'PUT') {
        if (url.startsWith(own)) expect(new Headers(init.headers).has('authorization')).toBe(true)
        else expect(new Headers(init.headers).has('authorization')).toBe(false)
        if (budget !== null && budget-- <= 0) throw new TypeError('the line broke')
        puts.push(url)
      }
      if (!url.startsWith(own)) return fetch(url, init)
      const answer = await app.request(url.slice(own.length), init)
      // workerd's answer comes as a Response of another realm.
      const { status, headers } = answer
      return new Response(await answer.arrayBuffer(), { status, headers: [...headers] })
    },
  })
  const reads: number[] = []
  const source: ByteSource = {
    size: bytes.length,
    async read(begin, end) {
      reads.push(end - begin)
      return bytes.subarray(begin, end)
    },
  }
  const progress: number[] = []
  const request = {
    manifest: what.manifest,
    safetensors: source,
    keys: [key],
    onProgress: ({ sent }: { sent: number }) => void progress.push(sent),
  }
  const broken = await client.publish(request).catch((e: unknown) => e)
  expect(broken).toMatchObject({ code: 'ERR_UNREACHABLE' })
  expect(puts.length).toBe(1)
  budget = null
  expect(await client.publish(request)).toMatchObject({ digest: what.digest, created: true })
  // What arrived before the line broke was not sent again.
  expect(puts.length).toBe(2)
  expect(new Set(puts.map((url) => url.split('?')[0]!.split('/').at(-1))).size).toBe(2)
  expect(Math.max(...reads)).toBeLessThanOrEqual(PART_BYTES)
  expect(progress.at(-1)).toBe(bytes.length)
  const pulled = await client.pull('@acme/large@1.0.0')
  expect(pulled.safetensors.length).toBe(bytes.length)
  expect(pulled.manifest.files[0]!.sha256).toBe(digest)
  const hosts = new Set(puts.map((url) => new URL(url, own).host))
  return { hosts: [...hosts] }
}
