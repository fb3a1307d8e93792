import { createRegistryClient } from '@graft/sdk/client/registry-client.ts'
import { backoffMs, isRetryable, retryAfterSeconds } from '@graft/sdk/client/retry.ts'
import { expect, it } from 'vitest'

const answer = (status: number, headers: Record<string, string> = {}, body: unknown = {}) =>
  new Response(JSON.stringify(body), { status, headers })

/** A server that answers from a list; an Error is a lost connection. */
function scripted(answers: (Response | Error)[]) {
  const asked: { url: string; init: RequestInit | undefined }[] = []
  const call: typeof fetch = async (url, init) => {
    asked.push({ url: String(url), init })
    const next = answers.shift()!
    if (next instanceof Error) throw next
    return next
  }
  return { asked, fetch: call }
}
const lost = () => new TypeError('fetch failed', { cause: new Error('gone') })
const overloaded = () =>
  answer(503, { 'retry-after': '0' }, { error: { code: 'ERR_OVERLOADED', message: 'busy' } })
const client = (answers: (Response | Error)[]) => {
  const server = scripted(answers)
  const registry = createRegistryClient({
    url: 'http://r.test',
    token: 'secret',
    fetch: server.fetch,
  })
  return { registry, asked: server.asked }
}

it('reads Retry-After in seconds and as a date, and nothing else', () => {
  const at = Date.parse('2026-01-01T00:00:00Z')
  const read = (value: string) => retryAfterSeconds(new Headers({ 'retry-after': value }), at)
  expect(read('3')).toBe(3)
  expect(read('Thu, 01 Jan 2026 00:00:07 GMT')).toBe(7)
  expect(read('Wed, 31 Dec 2025 00:00:00 GMT')).toBe(0)
  expect(read('soon')).toBeNull()
})

it('waits as long as it was told, else doubles up to eight seconds', () => {
  expect(backoffMs(0, 2, 0)).toBe(2000)
  expect([0, 1, 2, 10].map((n) => backoffMs(n, null, 0))).toEqual([250, 500, 1000, 8000])
  expect(backoffMs(1, null, 0.999)).toBeGreaterThanOrEqual(375)
})

it('asks again after 429, 503 and a call still in flight, never after another answer', () => {
  expect([429, 503].map((status) => isRetryable(status, null))).toEqual([true, true])
  expect([isRetryable(409, 1), isRetryable(409, null)]).toEqual([true, false])
  expect([400, 401, 402, 404, 500, 502].map((s) => isRetryable(s, 1))).toEqual(Array(6).fill(false))
})

it('repeats a read over a lost connection and an overloaded server', async () => {
  const ok = answer(200, {}, { sub: 'user:ada' })
  const { registry, asked } = client([lost(), overloaded(), ok])
  expect(await registry.whoami()).toEqual({ sub: 'user:ada' })
  expect(asked).toHaveLength(3)
})

it('does not repeat what would act twice when a connection is lost', async () => {
  const { registry, asked } = client([lost(), answer(200)])
  const request = { org: 'acme', name: 'n', scopes: ['infer' as const], expiresIn: 60 }
  await expect(registry.createToken(request)).rejects.toMatchObject({ code: 'ERR_UNREACHABLE' })
  expect(asked).toHaveLength(1)
})

it("gives the server's code and its Retry-After up when patience ends", async () => {
  const { registry, asked } = client([overloaded(), overloaded(), overloaded()])
  await expect(registry.whoami()).rejects.toMatchObject({
    code: 'ERR_OVERLOADED',
    message: 'busy',
    retryAfter: 0,
  })
  expect(asked).toHaveLength(3)
})

it('does not wait an hour because a server said so', async () => {
  const body = { error: { code: 'ERR_RATE_LIMITED', message: 'later' } }
  const { registry, asked } = client([answer(429, { 'retry-after': '3600' }, body)])
  await expect(registry.whoami()).rejects.toMatchObject({
    code: 'ERR_RATE_LIMITED',
    retryAfter: 3600,
  })
  expect(asked).toHaveLength(1)
})

it("reports a proxy's page by its status and says whose it is not", async () => {
  const { registry } = client([new Response('<h1>Bad Gateway</h1>', { status: 502 })])
  await expect(registry.whoami()).rejects.toMatchObject({
    code: 'ERR_UNREACHABLE',
    message: 'whoami answered 502, which is not a Graft error: <h1>Bad Gateway</h1>',
  })
})

it('refuses names that would climb out of their route, and URLs that are none', async () => {
  const { registry, asked } = client([])
  await expect(async () => registry.revokeToken('..')).rejects.toMatchObject({
    code: 'ERR_REQUEST_INVALID',
  })
  expect(asked).toHaveLength(0)
  expect(() => createRegistryClient({ url: 'ftp://r.test' })).toThrow(
    'registry URL must be an http or https URL, got "ftp://r.test"',
  )
})
