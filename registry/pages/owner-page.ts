import type { PublisherKey } from '@graft/sdk/protocol/registry-api.ts'
import { html } from 'hono/html'
import type { PackageRow } from '../packages/browse.ts'
import type { Page } from './layout.ts'
import { dateTime, nextPage, packageCards } from './package-list.ts'

/** @param keys the organisation's publisher keys, revoked ones too */
export const ownerPage = (
  org: string,
  rows: readonly PackageRow[],
  keys: readonly PublisherKey[],
  next: string | null,
): Page => ({
  title: `@${org} · Graft`,
  main: html`<h1>@${org}</h1>
    <h2>Adapters</h2>
    ${packageCards(rows, 3)}
    ${nextPage(next)}
    <h2 id="keys">Publisher keys</h2>
    <div class="scroll" role="region" aria-labelledby="keys" tabindex="0"><table>
      <thead><tr><th scope="col">Key</th><th scope="col">Algorithm</th><th scope="col">State</th><th scope="col">Registered</th></tr></thead>
      <tbody>${keys.map(
        (key) => html`<tr>
          <td><code>${key.kid}</code></td>
          <td>${key.jwk.crv ?? key.jwk.kty ?? ''}</td>
          <td>${key.status === 'active' ? 'active' : html`<span class="pill bad">revoked</span>`}</td>
          <td>${dateTime(key.createdAt)}</td>
        </tr>`,
      )}</tbody>
    </table></div>`,
})
