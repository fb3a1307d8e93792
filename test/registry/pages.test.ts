import { sha256 } from '@graft/sdk/format/digest.ts'
import { manifestDigest } from '@graft/sdk/format/parse-manifest.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { adapter, openHouse, publish, publishRequest } from './fixtures.ts'
import { adapterWithReadme, README } from './pages/shelf-of-pages.ts'

let house: Awaited<ReturnType<typeof openHouse>>
beforeAll(async () => {
  house = await openHouse()
})
afterAll(() => house.close())

const page = async (path: string, headers: Record<string, string> = {}) => {
  const response = await house.registry.app.request(path, {
    headers: { authorization: `Bearer ${house.token}`, accept: 'text/html', ...headers },
  })
  return { status: response.status, headers: response.headers, text: await response.text() }
}

type Made = Awaited<ReturnType<typeof adapter>>
async function put(made: Made, visibility: 'public' | 'private' = 'public') {
  const { call, token, key } = house
  const answer = await publish(call, token, made, await publishRequest(made, key, { visibility }))
  expect(answer.body).toMatchObject({ state: 'published' })
  return made
}

/** Tags of a page by name and attributes, without those of its fixed head. */
const tagsOf = (text: string): string[] =>
  text.slice(text.indexOf('</style>')).match(/<[a-z][^>]*>/gi) ?? []

describe('what pages tell', () => {
  it('pages show public packages only, whoever asks, and an organisation of private ones does not exist', async () => {
    const { base } = house
    await put(await adapter({ base, name: '@acme/open', seed: 1 }))
    await put(await adapter({ base, name: '@acme/hidden', seed: 2 }), 'private')
    for (const path of [
      '/',
      '/search',
      '/search?q=hidden',
      '/@acme',
      '/bases',
      `/bases/${base.digest}`,
    ])
      expect((await page(path)).text, path).not.toContain('/hidden')
    expect((await page('/')).text).toContain('<a href="/@acme/open">@acme/open</a>')
    const eve = await house.newcomer('eve', 'evil')
    const secret = await adapter({ base, name: '@evil/secret', seed: 3 })
    const request = await publishRequest(secret, eve.key, { visibility: 'private' })
    expect((await publish(house.call, eve.token, secret, request)).body.state).toBe('published')
    const blank = (text: string) => text.replace(/@(acme|evil|nobody)(\/\w+)?/g, 'NAME')
    for (const [hidden, missing] of [
      ['/@acme/hidden', '/@acme/absent'],
      ['/@acme/hidden/versions', '/@acme/absent/versions'],
      ['/@acme/hidden/v/1.0.0', '/@acme/absent/v/1.0.0'],
      ['/@evil', '/@nobody'],
      ['/@evil/secret', '/@nobody/secret'],
    ]) {
      const [a, b] = [await page(hidden!), await page(missing!)]
      expect(a.status, hidden).toBe(404)
      expect(blank(a.text)).toBe(blank(b.text))
      expect([...a.headers.keys()]).toEqual([...b.headers.keys()])
    }
    expect((await page(`/bases/${base.digest}`)).text).toContain('@acme/open')
    expect((await page('/bases')).text).toContain('1 adapter<')
  })

  it('a package page has the readme, lineage, operations, goldens, signature, log entry and how to call it', async () => {
    const { base, key } = house
    const fields = { keywords: ['sql'], license: 'Apache-2.0' }
    const sql = await put(
      await adapterWithReadme(README, {
        base,
        name: '@acme/sql',
        seed: 4,
        withGoldens: true,
        fields,
      }),
    )
    const { text } = await page('/@acme/sql')
    for (const part of [
      '<h3 id="readme-sql-from-questions" dir="auto">SQL from questions</h3>',
      '<strong>one</strong>',
      '<td dir="auto">epochs</td>',
      'LlamaForCausalLM',
      `<code>${sql.digest}</code>`,
      `href="/bases/${base.digest}"`,
      'rank 2, scale 2',
      'model.layers.0.self_attn.q_proj',
      'peft@0.21.2, base in fp32',
      '1 prompt: logits at 1 position',
      `<code>${key.kid}</code>`,
      `/v1/manifests/${sql.digest}/log`,
      'graft pull @acme/sql@1.0.0',
      'graft run @acme/sql@1.0.0',
      'Apache-2.0',
      'href="/search?keyword=sql"',
      '<span class="pill">latest</span>',
    ])
      expect(text, part).toContain(part)
    expect(text).not.toContain('license: apache-2.0')
    expect(text).not.toContain('<img')
  })

  it('versions show tags and states, and a yanked, deprecated or removed one says why', async () => {
    const { base, call, token } = house
    for (let i = 0; i < 12; i++)
      await put(await adapter({ base, name: '@acme/many', version: `1.${i}.0`, seed: 20 + i }))
    const state = async (version: string, what: string, json: object) =>
      expect(
        (await call('PUT', `/v1/packages/@acme/many/versions/${version}/${what}`, { token, json }))
          .status,
      ).toBe(200)
    await state('1.10.0', 'yank', { reason: 'wrong <b>data</b>' })
    await state('1.9.0', 'deprecation', { message: 'use 1.11' })
    await state('1.8.0', 'tombstone', { reason: 'held a secret' })
    const { text } = await page('/@acme/many')
    expect(text.match(/href="\/@acme\/many\/v\//g)).toHaveLength(10)
    expect(text).toContain('All 12 versions')
    expect(
      (await page('/@acme/many/versions')).text.match(/href="\/@acme\/many\/v\//g),
    ).toHaveLength(12)
    expect((await page('/@acme/many/v/1.10.0')).text).toContain('wrong &lt;b&gt;data&lt;/b&gt;')
    expect((await page('/@acme/many/v/1.9.0')).text).toContain('use 1.11')
    const removed = await page('/@acme/many/v/1.8.0')
    expect([removed.status, removed.text]).toEqual([200, expect.stringContaining('held a secret')])
    expect(removed.text).not.toContain('Call it')
    expect((await page('/@acme/many/v/9.9.9')).status).toBe(404)
  })
})

it('a README is bounded where it is published, and bytes that are no text do no harm', async () => {
  const { base, call, token, key } = house
  const made = await adapter({ base, name: '@acme/booklet', seed: 12 })
  const row = async (bytes: Uint8Array) => ({
    ...{ path: 'README.md', size: bytes.length, sha256: await sha256(bytes) },
    ...{ role: 'card' as const, mediaType: 'text/markdown' },
  })
  const withRow = async (bytes: Uint8Array) => {
    const card = await row(bytes)
    const manifest = { ...made.manifest, files: [...made.manifest.files, card] }
    const files = new Map(made.files).set(card.sha256, bytes)
    return { ...made, manifest, files, digest: await manifestDigest(manifest) }
  }
  const book = await withRow(new Uint8Array(128 * 1024 + 1).fill(97))
  const refused = await publish(call, token, book, await publishRequest(book, key))
  expect([refused.status, refused.body.error.message]).toEqual([
    413,
    expect.stringMatching(/card file sha256:\w+ must be at most 131072 bytes, got 131073/),
  ])
  await put(await withRow(Uint8Array.of(0x23, 0x20, 0xff, 0xfe, 0x00, 0x3c, 0x62, 0x3e)))
  const { status, text } = await page('/@acme/booklet')
  expect([status, text]).toEqual([200, expect.stringContaining('\uFFFD\uFFFD')])
})

describe('search', () => {
  it('filters by words, base, method, keyword, and its pages are whole and without repeats', async () => {
    const { base, call, token } = house
    const other = await import('./fixtures.ts').then(({ tinyBase }) => tinyBase('other-base', 5))
    await call('POST', '/v1/bases', { token, json: other })
    for (let i = 0; i < 45; i++)
      await put(
        await adapter({
          base: i < 3 ? other : base,
          name: `@acme/many-${String(i).padStart(2, '0')}`,
          seed: 100 + i,
          kind: i % 5 === 0 ? 'scale' : 'low_rank',
          fields: {
            description: `Number ${i} of a crowd`,
            keywords: i % 9 === 0 ? ['ninth'] : ['crowd'],
          },
        }),
      )
    const names = (text: string) => [...text.matchAll(/<h2><a href="\/(@[^"]+)"/g)].map((m) => m[1])
    const all = async (path: string): Promise<(string | undefined)[]> => {
      const found = []
      for (let next: string | undefined = path; next; ) {
        const { status, text } = await page(next)
        expect(status, next).toBe(200)
        found.push(...names(text))
        next = /<a href="([^"]+)" rel="next"/.exec(text)?.[1]?.replaceAll('&amp;', '&')
      }
      return found
    }
    for (const sort of ['name', 'updated']) {
      const found = await all(`/search?q=crowd&sort=${sort}`)
      expect(found).toHaveLength(45)
      expect(new Set(found).size).toBe(45)
    }
    expect(await all('/search?q=crowd&sort=name')).toEqual(
      Array.from({ length: 45 }, (_, i) => `@acme/many-${String(i).padStart(2, '0')}`),
    )
    expect(await all('/search?q=NUMBER+crowd+44')).toEqual(['@acme/many-44'])
    expect(await all('/search?keyword=ninth')).toHaveLength(5)
    expect(await all('/search?q=crowd&method=ia3')).toHaveLength(9)
    expect(await all(`/search?base=${other.digest}`)).toHaveLength(3)
    expect((await page(`/bases/${other.digest}`)).text).toContain(base.digest)
    const long = await page(`/search?q=${'x'.repeat(180)}`)
    expect([long.status, long.text]).toEqual([
      200,
      expect.stringContaining('No public adapter matches'),
    ])
    const asked = await page('/search?q=%22%3E%3Cb%3E&method=%3Ci%3E')
    expect(asked.text).toContain('value="&quot;&gt;&lt;b&gt;"')
    expect(asked.text).toContain('value="&lt;i&gt;"')
  })

  it.each([
    '/search?cursor=%%%',
    '/search?cursor=aaaa',
    '/search?base=sha256:00',
    '/search?sort=random',
    '/search?what=1',
    '/search?q=a&q=b',
    '/?q=a',
  ])('%s is refused with a page', async (path) => {
    const { status, headers, text } = await page(path)
    expect(status).toBe(400)
    expect(headers.get('content-type')).toBe('text/html; charset=UTF-8')
    expect(text).toContain('This cannot be shown')
  })
})

describe('a page', () => {
  it('runs no script, loads nothing from elsewhere, and is revalidated by its ETag', async () => {
    const first = await page('/@acme/open')
    const policy = first.headers.get('content-security-policy')!
    expect(policy).toMatch(/^default-src 'none'; style-src 'sha256-[\w+/]{43}='; img-src 'self';/)
    expect(first.headers.get('cache-control')).toBe('public, max-age=30')
    const etag = first.headers.get('etag')!
    const again = await page('/@acme/open', { 'if-none-match': etag })
    expect([again.status, again.text]).toEqual([304, ''])
    for (const tag of tagsOf(first.text)) {
      expect(tag).not.toMatch(/^<(script|iframe|img|object|embed|base|form(?! role))/)
      expect(tag).not.toMatch(/\s(on\w+|style|src)=/)
    }
  })

  it('an address that is none is a page for browsers and JSON for programs', async () => {
    const human = await page('/no/such/place')
    expect([human.status, human.text]).toEqual([404, expect.stringContaining('<h1>Not found</h1>')])
    const program = await house.registry.app.request('/no/such/place')
    expect(await program.json()).toMatchObject({ error: { code: 'ERR_ROUTE_UNKNOWN' } })
    const api = await page('/v1/nothing')
    expect(JSON.parse(api.text)).toMatchObject({ error: { code: 'ERR_ROUTE_UNKNOWN' } })
    expect((await page('/@UPPER/case')).status).toBe(404)
    expect((await page('/bases/sha256:zz')).status).toBe(404)
  })

  it('escapes what authors write, wherever it stands', async () => {
    const { base } = house
    const evil = `"><script>alert(1)</script><img src=x onerror=alert(2)>\u202Eevil`
    const fields = {
      description: evil,
      keywords: [evil.slice(0, 60), 'x'.repeat(64), 'שלום'],
      license: evil,
      method: { family: 'lora', flags: [] },
    }
    await put(
      await adapterWithReadme(`# ${evil}\n\n${evil}`, {
        base,
        name: '@acme/hostile',
        seed: 9,
        fields,
      }),
    )
    const longest = `@acme/${'w'.repeat(64)}`
    await put(await adapter({ base, name: longest, seed: 10 }))
    for (const path of [
      '/',
      '/search',
      '/@acme',
      '/@acme/hostile',
      `/bases/${base.digest}`,
      `/${longest}`,
    ]) {
      const { status, text } = await page(path)
      expect(status).toBe(200)
      for (const tag of tagsOf(text)) {
        expect(tag, path).not.toMatch(/^<(script|iframe|img|object|embed|base|style|link|meta)/i)
        expect(tag, path).not.toMatch(/\son\w+=/i)
      }
    }
  })
})
