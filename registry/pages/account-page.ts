import { html } from 'hono/html'
import type { Page } from './layout.ts'

export interface AccountView {
  user: string
  formKey: string
  orgs: { org: string; role: string }[]
  identities: { issuer: string; subject: string }[]
  /** Where an identity can be linked; empty when this session may not. */
  providers: { id: string; name: string }[]
}

export const accountPage = ({ user, formKey, orgs, identities, providers }: AccountView): Page => ({
  title: `${user} · Graft`,
  search: false,
  main: html`<h1>${user}</h1>
<p>${orgs.map(({ org, role }) => html`<span class="pill">${org}: ${role}</span> `)}</p>
<h2>Ways to sign in</h2>
<ul>${identities.map(({ issuer, subject }) => html`<li><code>${subject}</code> at ${issuer}</li>`)}
${identities.length === 0 ? html`<li>only by token so far</li>` : ''}</ul>
${providers.map(
  ({ id, name }) => html`<form method="post" action="/account/oidc/${id}/link">
  <input type="hidden" name="form_key" value="${formKey}" /><button>Link ${name}</button></form>`,
)}
<form method="post" action="/account/sign-out">
  <input type="hidden" name="form_key" value="${formKey}" /><button>Sign out</button>
</form>
<p><a href="/device">Sign in a device</a></p>`,
})

/** A page between this site and another: forms of this one lead nowhere else, and its cookie is for its own links. */
export const continuePage = (title: string, says: string, to: string): Page => ({
  title: `${title} · Graft`,
  search: false,
  main: html`<h1>${title}</h1><p class="lead">${says}</p><p><a href="${to}">Continue</a></p>`,
})
