import { afterAll, beforeAll, expect, it } from 'vitest'
import { adapter, openHouse, publish, publishRequest } from './fixtures.ts'

let house: Awaited<ReturnType<typeof openHouse>>
beforeAll(async () => {
  house = await openHouse()
})
afterAll(() => house.close())

const page = async (path: string) => {
  const response = await house.registry.app.request(path, {
    headers: { authorization: `Bearer ${house.token}` },
  })
  return { status: response.status, headers: response.headers, text: await response.text() }
}

it('pages show public packages only, whoever asks, and escape what authors write', async () => {
  const { call, token, key, base } = house
  const description = '<script>alert("1")</script> & more'
  const open = await adapter({ base, name: '@acme/open', seed: 1, fields: { description } })
  const hidden = await adapter({ base, name: '@acme/hidden', seed: 2 })
  await publish(call, token, open, await publishRequest(open, key))
  await publish(call, token, hidden, await publishRequest(hidden, key, { visibility: 'private' }))
  const list = await page('/')
  expect(list.headers.get('content-type')).toMatch(/^text\/html/)
  expect(list.headers.get('content-security-policy')).toContain("default-src 'none'")
  expect(list.text).toContain('<a href="/@acme/open">@acme/open</a>')
  expect(list.text).toContain('&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; more')
  expect(list.text).not.toContain('hidden')
  const search = await page('/?q=%22%3E%3Cb%3E')
  expect(search.text).toContain('value="&quot;&gt;&lt;b&gt;"')
  expect(search.text).toContain('No public adapter matches')
  const one = await page('/@acme/open')
  expect(one.text).toContain(`<code>${open.digest}</code>`)
  expect(one.text).toContain('graft pull @acme/open')
  expect((await page('/@acme/hidden')).status).toBe(404)
})
