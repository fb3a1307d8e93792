import { renderReadme } from '@graft/registry/pages/readme.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { hostileMarkdown } from './hostile-markdown.ts'

/** Every tag that may stand in a README, with all that may stand in it. */
const ALLOWED =
  /^<(?:\/?(?:p|li|ul|ol|h[3-6]|strong|em|del|code|pre|blockquote|table|thead|tbody|tr|th|td|div|a)|hr|br|p dir="auto"|li dir="auto"(?: class="task")?|t[hd] dir="auto"|blockquote dir="auto"|ol start="\d+"|pre tabindex="0"|div class="scroll" tabindex="0"|h[3-6] id="readme-[^"<>]*" dir="auto"|a href="#readme-[^"<>]*"|a href="(?:https?:|mailto:)[^"<>]*" rel="nofollow ugc noopener noreferrer")>$/

/** What is no tag holds no angle bracket, so a parser of HTML sees these tags and no others. */
function expectSafe(html: string): void {
  for (const tag of html.match(/<[^>]*>/g) ?? []) expect(tag).toMatch(ALLOWED)
  expect(html.replace(/<[^>]*>/g, '')).not.toMatch(/[<>]/)
}

describe('renderReadme', () => {
  it.each([
    ['a script', '<script>alert(1)</script>after', 'after'],
    ['a style', 'a\n\n<style>*{display:none}</style>', '<p dir="auto">a</p>'],
    ['a frame', '<iframe src="https://x.example"></iframe>\n\nb', '<p dir="auto">b</p>'],
    ['an image that runs', '<img src=x onerror=alert(1)>', ''],
    ['a comment', 'a <!-- <b> --> c', '<p dir="auto">a  c</p>'],
    ['an unclosed tag', 'a <script', '<p dir="auto">a &lt;script</p>'],
    ['a javascript: link', '[a](javascript:alert(1))', '<p dir="auto">a</p>'],
    ['the same in disguise', '[a](&#106;avascript:alert(1))', '<p dir="auto">a</p>'],
    ['the same with a tab', '[a](<java\tscript:alert(1)>)', '<p dir="auto">a</p>'],
    ['a data: link', '[a](data:text/html,<script>)', '<p dir="auto">a</p>'],
    ['a data: image', '![a](data:image/svg+xml;base64,AAAA)', '<p dir="auto">[image: a]</p>'],
    ['a path', '[a](../LICENSE)', '<p dir="auto">a</p>'],
    [
      'an attribute in a link',
      '[a](https://x.example/"onclick="b)',
      '<p dir="auto"><a href="https://x.example/%22onclick=%22b" rel="nofollow ugc noopener noreferrer">a</a></p>',
    ],
    [
      'a heading id',
      '# a"onclick="b',
      '<h3 id="readme-aonclickb" dir="auto">a&quot;onclick=&quot;b</h3>',
    ],
    ['a reversed line of code', '`a\u202Eb`', '<p dir="auto"><code>a[U+202E]b</code></p>'],
    [
      'character references',
      '&copy; &lt;script&gt; &',
      '<p dir="auto">&copy; &lt;script&gt; &amp;</p>',
    ],
  ])('takes the harm out of %s', (_, markdown, want) => {
    const html = renderReadme(markdown)
    expectSafe(html)
    expect(html).toContain(want)
    if (want === '') expect(html).toBe('')
  })

  it("goes on below the page's headings without a gap", () => {
    const html = renderReadme('### first\n\n# second\n\n#### third\n\n#### fourth\n\n# second')
    expect([...html.matchAll(/<h(\d) id="([^"]+)"/g)].map((m) => [m[1], m[2]])).toEqual([
      ['3', 'readme-first'],
      ['3', 'readme-second'],
      ['4', 'readme-third'],
      ['5', 'readme-fourth'],
      ['3', 'readme-second-1'],
    ])
  })

  it('writes only its own tags, whatever it is given', () => {
    fc.assert(
      fc.property(hostileMarkdown, (markdown) => expectSafe(renderReadme(markdown))),
      { numRuns: 3000 },
    )
  })

  it.each([
    ['stars', '*a'],
    ['runs of stars', '*'],
    ['underscores', '_a __b '],
    ['tildes', '~~a'],
    ['brackets', '['],
    ['links', '[a]('],
    ['images', '!['],
    ['quotes', '>'],
    ['lists', '- '],
    ['numbers', '1. '],
    ['tags', '<a '],
    ['comments', '<!--'],
    ['ticks', '`a``'],
    ['mailboxes', 'a@'],
    ['addresses', 'http://'],
    ['definitions', '[a]: b\n'],
    ['cells', '|a'],
    ['backslashes', '\\'],
  ])('reads 128 KiB of %s in about linear time', (_, piece) => {
    const text = (kib: number) => piece.repeat((kib * 1024) / piece.length)
    const time = (kib: number) => {
      const start = performance.now()
      renderReadme(text(kib))
      return performance.now() - start
    }
    time(32)
    // Quadratic would be seconds: marked alone takes 78 s for 64 KiB of stars.
    expect(time(128)).toBeLessThan(3000)
  })
})
