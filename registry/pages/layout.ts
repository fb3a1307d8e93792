import { html } from 'hono/html'

const STYLE = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .4rem .6rem; border-bottom: 1px solid #8884 }
code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere }
form { margin: 1rem 0 } input { font: inherit; padding: .3rem .5rem; width: 20rem; max-width: 100% }
`

/** Pages run no script and load nothing. */
export const PAGE_HEADERS = {
  'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cache-control': 'public, max-age=30',
}

export type Html = ReturnType<typeof html>

/** What every page shares; `html` escapes all that is put into it. */
export const layout = (title: string, body: Html): Html => html`<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width" />
    <title>${title}</title>
    <style>${STYLE}</style>
  </head>
  <body>
    ${body}
  </body>
</html>`
