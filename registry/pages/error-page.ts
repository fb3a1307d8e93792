import { html } from 'hono/html'
import type { Page } from './layout.ts'

/** What there is nothing of: the same page for what does not exist and for what may not be seen. */
export const notFoundPage = (what: string): Page => ({
  title: 'Not found · Graft',
  main: html`<h1>Not found</h1>
    <p class="lead">${what}</p>
    <p>Look for it in the <a href="/search">list of adapters</a>.</p>`,
})

/** @param requestId lets the operator find the request in the log */
export const errorPage = (title: string, message: string, requestId: string): Page => ({
  title: `${title} · Graft`,
  main: html`<h1>${title}</h1>
    <p class="lead">${message}</p>
    <p class="muted small">Request <code>${requestId}</code>. <a href="/">Home</a></p>`,
})
