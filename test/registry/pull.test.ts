import { parseByteRange } from '@graft/registry/http/byte-range.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Adapter, adapter, openHouse, publish, publishRequest } from './fixtures.ts'

describe('a blob', () => {
  let house: Awaited<ReturnType<typeof openHouse>>
  let what: Adapter
  let path: string
  let bytes: Uint8Array

  beforeAll(async () => {
    house = await openHouse()
    what = await adapter({ base: house.base })
    await publish(house.call, house.token, what, await publishRequest(what, house.key))
    const [digest, content] = [...what.files][0]!
    path = `/v1/blobs/${digest}`
    bytes = content
  })
  afterAll(() => house.close())

  const get = (headers: Record<string, string>) => house.call('GET', path, { headers })

  it('is immutable and answers a revalidation without its bytes', async () => {
    const full = await get({})
    expect(full.headers.get('cache-control')).toBe('public, max-age=31536000, immutable')
    expect(full.headers.get('accept-ranges')).toBe('bytes')
    const etag = full.headers.get('etag')!
    expect(etag).toBe(`"${path.slice('/v1/blobs/'.length)}"`)
    for (const value of [etag, `"x", W/${etag}`, '*'])
      expect((await get({ 'if-none-match': value })).status).toBe(304)
    expect((await get({ 'if-none-match': '"x"' })).status).toBe(200)
  })

  it('comes in parts that join to the whole', async () => {
    const cut = 100
    const [head, tail] = [
      await get({ range: `bytes=0-${cut - 1}` }),
      await get({ range: `bytes=${cut}-` }),
    ]
    expect([head.status, tail.status]).toEqual([206, 206])
    expect(head.headers.get('content-range')).toBe(`bytes 0-99/${bytes.length}`)
    expect(head.headers.get('content-length')).toBe('100')
    expect(new Uint8Array([...head.body, ...tail.body])).toEqual(bytes)
    const last = await get({ range: 'bytes=-8' })
    expect(last.body).toEqual(bytes.subarray(-8))
  })

  it('refuses a range outside of it and says how long it is', async () => {
    const beyond = await get({ range: `bytes=${bytes.length}-` })
    expect(beyond.status).toBe(416)
    expect(beyond.headers.get('content-range')).toBe(`bytes */${bytes.length}`)
    expect(beyond.body.error.code).toBe('ERR_REQUEST_INVALID')
  })

  it('sends everything when the range is of other bytes, or of a kind it does not know', async () => {
    const stale = await get({ range: 'bytes=0-9', 'if-range': '"sha256:other"' })
    expect([stale.status, stale.body.length]).toEqual([200, bytes.length])
    for (const range of ['bytes=0-1,4-5', 'lines=1-2', 'bytes=5-2'])
      expect((await get({ range })).status).toBe(200)
  })

  it('answers HEAD with its size and no bytes', async () => {
    const head = await house.call('HEAD', path)
    expect(head.status).toBe(200)
    expect(head.headers.get('content-length')).toBe(String(bytes.length))
    expect(head.body).toHaveLength(0)
  })
})

describe('a byte range', () => {
  it.each([
    ['bytes=0-0', 10, { start: 0, end: 1 }],
    ['bytes=3-99', 10, { start: 3, end: 10 }],
    ['bytes=-99', 10, { start: 0, end: 10 }],
    ['bytes=-0', 10, 'unsatisfiable'],
    ['bytes=10-', 10, 'unsatisfiable'],
    ['bytes=0-', 0, 'unsatisfiable'],
    ['bytes=-', 10, null],
    ['bytes= 0-1', 10, null],
    [undefined, 10, null],
  ] as const)('%s of %i bytes', (header, size, want) => {
    expect(parseByteRange(header, size)).toEqual(want)
  })
})
