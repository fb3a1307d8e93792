import type { PackageSummary } from '@graft/sdk/protocol/registry-api.ts'
import { html } from 'hono/html'
import { type Html, layout } from './layout.ts'

export const packageList = (packages: readonly PackageSummary[], words: string): Html =>
  layout(
    'Adapters',
    html`<h1>Adapters</h1>
      <form role="search">
        <label>Search <input name="q" type="search" value="${words}" /></label>
      </form>
      ${packages.length === 0 ? html`<p>No public adapter matches.</p>` : table(packages)}`,
  )

const table = (packages: readonly PackageSummary[]): Html => html`<table>
  <thead>
    <tr><th>Name</th><th>Latest</th><th>Base</th><th>Description</th></tr>
  </thead>
  <tbody>
    ${packages.map(
      (row) => html`<tr>
        <td><a href="/${row.name}">${row.name}</a></td>
        <td>${row.latest ?? ''}</td>
        <td>${row.base.name}</td>
        <td>${row.description}</td>
      </tr>`,
    )}
  </tbody>
</table>`
