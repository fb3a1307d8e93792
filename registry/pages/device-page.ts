import type { Scope } from '@graft/sdk/protocol/tokens.ts'
import { html } from 'hono/html'
import { formatUserCode } from '../identity/user-code.ts'
import type { Html, Page } from './layout.ts'

const MEANING: Record<Scope, string> = {
  infer: 'call models',
  read: 'read private packages',
  publish: 'publish packages and register keys',
  admin: 'administer: members, tokens, tombstones',
  ledger: 'move money',
}

const signedInAs = (
  user: string,
  formKey: string,
): Html => html`<form class="filters" method="post" action="/account/sign-out">
  <input type="hidden" name="form_key" value="${formKey}" />
  <p>Signed in as <strong>${user}</strong></p>
  <button>Sign out</button>
</form>`

/** Asks for the code that the program shows. */
export const codePage = (user: string, formKey: string, problem: string | null): Page => ({
  title: 'Sign in a device · Graft',
  search: false,
  main: html`<h1>Sign in a device</h1>
${problem === null ? '' : html`<p class="note bad" role="alert">${problem}</p>`}
<form class="filters" method="post" action="/device/code">
  <input type="hidden" name="form_key" value="${formKey}" />
  <p class="words">
    <label for="user_code">The code that the program shows</label>
    <input id="user_code" name="user_code" required maxlength="20" autocomplete="off" autocapitalize="characters" spellcheck="false" placeholder="ABCD-EFGH" />
  </p>
  <button>Continue</button>
</form>
${signedInAs(user, formKey)}`,
})

export interface DecisionView {
  user: string
  formKey: string
  userCode: string
  /** Organisations, each with what would be given there. */
  choices: { org: string; scopes: Scope[] }[]
}

/** Says what would be given, and asks. RFC 8628 section 5.4: the person must compare the codes. */
export const decisionPage = ({ user, formKey, userCode, choices }: DecisionView): Page => ({
  title: 'Allow this device? · Graft',
  search: false,
  main: html`<h1>Allow this device?</h1>
<p class="lead">A program asks to act as <strong>${user}</strong>. It must show the code
<code>${formatUserCode(userCode)}</code>.</p>
<p class="note">Did somebody send you this code? Then deny: they, not you, would be signed in.</p>
<form method="post" action="/device">
  <input type="hidden" name="form_key" value="${formKey}" />
  <input type="hidden" name="user_code" value="${userCode}" />
  ${choices.map(
    ({ org, scopes }, i) => html`<p>
    <label><input type="radio" name="org" value="${org}" required ${i === 0 ? 'checked' : ''} /> in <strong>${org}</strong>:
    ${scopes.map((scope) => MEANING[scope]).join('; ')}</label></p>`,
  )}
  ${choices.length === 0 ? html`<p class="note bad">You have none of what it asks for.</p>` : html`<button name="decision" value="allow">Allow</button>`}
  <button name="decision" value="deny" formnovalidate>Deny</button>
</form>
${signedInAs(user, formKey)}`,
})

export const decidedPage = (allowed: boolean): Page => ({
  title: allowed ? 'Allowed · Graft' : 'Denied · Graft',
  search: false,
  main: allowed
    ? html`<h1>Allowed</h1><p class="lead">The program is signed in within seconds. You can close this page.</p>`
    : html`<h1>Denied</h1><p class="lead">The program got nothing.</p>`,
})
