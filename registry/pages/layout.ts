import { html, raw } from 'hono/html'
import { STYLE } from './style.ts'

export type Html = ReturnType<typeof html>

export interface Page {
  title: string
  /** For search engines and previews. @default none */
  description?: string
  /** What the search field of the header holds. @default empty */
  words?: string
  /** False keeps the header's search field away where the page has its own. @default true */
  search?: boolean
  main: Html
}

const MARK = html`<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 22V10M12 14C6 14 5 9 5 5c5 0 7 4 7 9M12 11c0-5 3-8 8-8 0 5-3 8-8 8" /></svg>`

/** The mark as a file: pages load nothing else. */
export const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="#2a9d74" stroke-width="2.2" stroke-linecap="round"><path d="M12 22V10M12 14C6 14 5 9 5 5c5 0 7 4 7 9M12 11c0-5 3-8 8-8 0 5-3 8-8 8"/></svg>`

const searchField = (words: string): Html => html`<form role="search" action="/search">
  <label class="skip" for="find">Search adapters</label>
  <div class="find">
    <input id="find" name="q" type="search" value="${words}" placeholder="Search adapters" maxlength="200" />
    <button>Search</button>
  </div>
</form>`

/** What every page shares; `html` escapes all that is put into it. */
export const layout = ({ title, description, words = '', search = true, main }: Page): Html =>
  html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<meta name="color-scheme" content="light dark" />
<title>${title}</title>
${description ? html`<meta name="description" content="${description}" />` : ''}
<link rel="icon" href="/icon.svg" type="image/svg+xml" />
<style>${raw(STYLE)}</style>
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<header class="bar">
  <div>
    <a class="brand" href="/">${MARK}<span>Graft</span></a>
    ${search ? searchField(words) : ''}
    <nav aria-label="Site"><a href="/search">Adapters</a><a href="/bases">Bases</a></nav>
  </div>
</header>
<main id="main" tabindex="-1">
${main}
</main>
<footer class="foot">
  <p>Versions never change: a digest names its bytes for good. Every publication is in this registry's
  <a href="/checkpoint">signed log</a>.</p>
</footer>
</body>
</html>`
