import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { renderReadme } from '@graft/registry/pages/readme.ts'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { listen } from '../../edge/helpers/listen.ts'
import { adapter, openHouse, publish, publishRequest, tinyBase } from '../fixtures.ts'
import { audit } from './audit.ts'
import { type Look, NO_CHROMIUM, openChromium } from './chromium.ts'
import { hostileMarkdown } from './hostile-markdown.ts'
import { adapterWithReadme, README } from './shelf-of-pages.ts'

/** Folder for screenshots, to be looked at; none are kept without it. */
const SHOTS = process.env['GRAFT_PAGE_SHOTS']
/** axe.min.js of axe-core, which is no dependency here: another opinion than audit.ts, where somebody has it. */
const AXE = process.env['GRAFT_AXE']
const LONG = `@acme/${'w'.repeat(64)}`

if (NO_CHROMIUM) console.warn(`pages are not looked at in a browser: ${NO_CHROMIUM}`)

describe.skipIf(NO_CHROMIUM !== null)('in Chromium', () => {
  let house: Awaited<ReturnType<typeof openHouse>>
  let server: Awaited<ReturnType<typeof listen>>
  let browser: Awaited<ReturnType<typeof openChromium>>
  let paths: Record<string, string>

  beforeAll(async () => {
    let now = Date.parse('2026-03-01T10:00:00Z')
    house = await openHouse({
      clock: () => {
        now += 3_600_000
        return new Date(now)
      },
    })
    const { base, call, token, key } = house
    const put = async (made: Awaited<ReturnType<typeof adapter>>) =>
      expect((await publish(call, token, made, await publishRequest(made, key))).status).toBe(200)
    const twin = await tinyBase('tiny-base-tuned', 2)
    await call('POST', '/v1/bases', { token, json: twin })
    const description =
      'Answers questions about tables with one SQL statement, for SQLite and PostgreSQL'
    const fields = { description, keywords: ['sql', 'text-to-sql', 'tables'] }
    for (let i = 0; i < 12; i++) {
      const options = { base, name: '@acme/sql', version: `1.${i}.0`, seed: i + 1, fields }
      await put(await adapterWithReadme(README, { ...options, withGoldens: i === 11 }))
    }
    const state = (version: string, what: string, json: object) =>
      call('PUT', `/v1/packages/@acme/sql/versions/${version}/${what}`, { token, json })
    await state('1.10.0', 'deprecation', { message: 'slower than 1.11' })
    await state('1.9.0', 'yank', { reason: 'repeats its prompt' })
    await state('1.8.0', 'tombstone', { reason: 'held a secret' })
    for (let i = 0; i < 22; i++) {
      const name = `@acme/tone-${String(i).padStart(2, '0')}`
      const about = {
        description: i % 2 ? 'Writes like a careful editor' : '',
        keywords: ['style'],
      }
      const kind = i % 3 ? 'low_rank' : 'scale'
      await put(await adapter({ base, name, seed: i + 50, kind, fields: about }))
    }
    const hostile = '<script>document.title="owned"</script>\u202Eقلب'
    await put(
      await adapterWithReadme(
        `# ${hostile}\n\n${hostile}\n\n![x](https://elsewhere.example/a.png)\n\n<img src="https://elsewhere.example/b.png" onerror="document.title='owned'">\n\n<style>body{display:none}</style>\n\n| a | b |\n|-|-|\n| ${'long'.repeat(60)} | ${'cell '.repeat(60)} |\n\n    ${'code'.repeat(80)}\n`,
        {
          base,
          name: LONG,
          seed: 99,
          fields: { description: hostile, keywords: ['x'.repeat(64), 'عربي'], license: hostile },
        },
      ),
    )
    server = await listen(house.registry.app)
    browser = await openChromium()
    paths = {
      home: '/',
      search: '/search?q=tone&method=lora',
      nothing: '/search?q=nowhere',
      package: '/@acme/sql',
      yanked: '/@acme/sql/v/1.9.0',
      removed: '/@acme/sql/v/1.8.0',
      versions: '/@acme/sql/versions',
      hostile: `/${LONG}`,
      owner: '/@acme',
      bases: '/bases',
      base: `/bases/${base.digest}`,
      missing: '/@acme/missing',
      refused: '/search?sort=random',
    }
  }, 120_000)
  afterAll(async () => {
    await browser.close()
    await server.close()
    await house.close()
  })

  /** The other pages are made of the same pieces. */
  const FEW = ['home', 'search', 'package', 'hostile']

  const looks: [string, Look][] = [
    ['desktop, light', { width: 1280, height: 900, dark: false }],
    ['desktop, dark', { width: 1280, height: 900, dark: true }],
    ['phone, light', { width: 390, height: 844, dark: false }],
    ['phone, dark', { width: 390, height: 844, dark: true }],
    ['print', { width: 800, height: 1100, dark: false, print: true }],
    ['narrowest', { width: 320, height: 640, dark: false }],
  ]

  it.each(looks)(
    'every page is accessible, loads nothing from elsewhere and breaks no policy: %s',
    async (look, options) => {
      for (const [name, path] of Object.entries(paths)) {
        if (['print', 'narrowest'].includes(look) && !FEW.includes(name)) continue
        const page = await browser.open(`${server.url}${path}`, options)
        if (SHOTS) {
          mkdirSync(SHOTS, { recursive: true })
          const file = `${name}-${look.replace(', ', '-')}.png`
          writeFileSync(join(SHOTS, file), await page.screenshot())
        }
        expect(await page.evaluate(`(${audit})()`), `${name}: ${look}`).toEqual([])
        expect(await page.evaluate('document.title')).not.toBe('owned')
        for (const address of page.requests) expect(address).toMatch(`${server.url}/`)
        // Chromium reports the status of the page itself; any other line is a broken policy or a failed load.
        const other = page.complaints.filter((line) => !/status of 40[04]/.test(line))
        expect(other, name).toEqual([])
        await page.close()
      }
    },
    120_000,
  )

  it.skipIf(AXE === undefined).each(looks.slice(0, 4))(
    'axe-core finds nothing either: %s',
    async (_, look) => {
      const source = readFileSync(AXE!, 'utf8')
      for (const [name, path] of Object.entries(paths)) {
        const page = await browser.open(`${server.url}${path}`, { ...look, scripts: true })
        await page.evaluate(`${source}; undefined`)
        const found = await page.evaluate(
          `axe.run().then(({ violations }) => violations.map((v) => v.id + ': ' + v.nodes[0].html))`,
        )
        expect(found, name).toEqual([])
        await page.close()
      }
    },
    120_000,
  )

  it('its parser finds in 2,000 hostile READMEs no tag and no attribute but ours', async () => {
    const texts = fc.sample(hostileMarkdown, { numRuns: 2000, seed: 1 }).map(renderReadme)
    const page = await browser.open(`${server.url}/`, looks[0]![1])
    const found = await page.evaluate<string[]>(`(() => {
      const found = new Set()
      for (const text of ${JSON.stringify(texts)})
        for (const e of new DOMParser().parseFromString(text, 'text/html').body.querySelectorAll('*')) {
          found.add(e.tagName.toLowerCase())
          for (const { name, value } of e.attributes)
            found.add(name === 'href' ? 'href ' + (value.startsWith('#') ? '#' : e.protocol) : name)
        }
      return [...found]
    })()`)
    const tags =
      'a p li ul ol h3 h4 h5 h6 strong em del code pre blockquote br hr div table thead tbody tr th td'
    const attributes = ['id', 'dir', 'rel', 'class', 'start', 'tabindex']
    const links = ['href #', 'href http:', 'href https:', 'href mailto:']
    const known = [...tags.split(' '), ...attributes, ...links]
    expect(found.filter((name) => !known.includes(name))).toEqual([])
    expect(found).toEqual(expect.arrayContaining(['href https:', 'code']))
    await page.close()
  })

  it('the first Tab shows the way past the header, and every stop is outlined', async () => {
    const page = await browser.open(`${server.url}/@acme/sql`, looks[0]![1])
    await page.press('Tab')
    const focus = `(() => {
      const { activeElement: e } = document
      const box = e.getBoundingClientRect()
      return { text: e.textContent.trim(), left: box.left, outline: getComputedStyle(e).outlineStyle }
    })()`
    expect(await page.evaluate(focus)).toMatchObject({ text: 'Skip to content', outline: 'solid' })
    expect((await page.evaluate<{ left: number }>(focus)).left).toBeGreaterThanOrEqual(0)
    for (let i = 0; i < 12; i++) {
      await page.press('Tab')
      expect(await page.evaluate(focus)).toMatchObject({ outline: 'solid' })
    }
    await page.close()
  })
})
