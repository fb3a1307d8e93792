import { html } from 'hono/html'
import type { Html, Page } from './layout.ts'

const wrong = (problem: string | null): Html | '' =>
  problem === null ? '' : html`<p class="note bad" role="alert">${problem}</p>`

/** `next`: where to go on afterwards, a path of this site. */
export const signInPage = (
  next: string,
  problem: string | null,
  providers: readonly { id: string; name: string }[],
): Page => ({
  title: 'Sign in · Graft',
  search: false,
  main: html`<h1>Sign in</h1>
${wrong(problem)}
${providers.map(
  ({ id, name }) =>
    html`<p class="pages"><a href="/account/oidc/${id}?next=${encodeURIComponent(next)}">Sign in with ${name}</a></p>`,
)}
<form class="filters" method="post" action="/account/sign-in">
  <input type="hidden" name="next" value="${next}" />
  <p class="words">
    <label for="token">Your access token</label>
    <input id="token" name="token" type="password" required maxlength="4096" autocomplete="off" spellcheck="false" />
  </p>
  <button>Sign in</button>
</form>
<p class="muted">A person's own token, as the set-up or an administrator gave it. This browser then acts with what the
token may do, for eight hours, and no longer than the token lives.</p>`,
})
