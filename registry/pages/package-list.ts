import { html } from 'hono/html'
import type { PackageRow } from '../packages/browse.ts'
import type { Html } from './layout.ts'
import { basePath, packagePath, sizeText } from './text.ts'

/** Keywords shown of each package; the package's own page has all. */
const MAX_KEYWORDS = 6

/** Stored cut to a bound, so it may be no whole JSON. */
export function keywordsOf(json: string): string[] {
  try {
    return JSON.parse(json) as string[]
  } catch {
    return []
  }
}

export const keywordPills = (keywords: readonly string[]): Html | string =>
  keywords.length === 0
    ? ''
    : html`<ul class="tags" aria-label="Keywords">
        ${keywords.map(
          (word) =>
            html`<li><a class="pill" href="/search?keyword=${encodeURIComponent(word)}"><bdi>${word}</bdi></a></li>`,
        )}
      </ul>`

export const dateTime = (iso: string): Html =>
  html`<time datetime="${iso}">${iso.slice(0, 10)}</time>`

const nameLink = ({ name }: PackageRow): Html => html`<a href="${packagePath(name)}">${name}</a>`

const card = (row: PackageRow, level: 2 | 3): Html => html`<li>
  ${level === 2 ? html`<h2>${nameLink(row)}</h2>` : html`<h3>${nameLink(row)}</h3>`}
  ${row.description ? html`<p class="clip" dir="auto">${row.description}</p>` : ''}
  ${keywordPills(keywordsOf(row.keywords).slice(0, MAX_KEYWORDS))}
  <p class="meta">
    <span>${row.version}</span><span>${row.family}</span><span>for <a href="${basePath(row.baseDigest)}">${row.baseName}</a></span>
    <span>${sizeText(row.size)}</span><span>${dateTime(row.publishedAt)}</span>
  </p>
</li>`

/** @param level of their headings: below the list's own */
export const packageCards = (rows: readonly PackageRow[], level: 2 | 3): Html =>
  html`<ul class="cards">${rows.map((row) => card(row, level))}</ul>`

/** The link to the next page, when there is one. */
export const nextPage = (href: string | null): Html | string =>
  href === null
    ? ''
    : html`<nav class="pages" aria-label="Pages"><a href="${href}" rel="next">Next page</a></nav>`
