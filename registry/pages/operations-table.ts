import type { Manifest } from '@graft/sdk/format/manifest.ts'
import { html } from 'hono/html'
import type { Html } from './layout.ts'
import { groupOperations } from './operation-groups.ts'
import { countText } from './text.ts'

/** Rows and sites of a hostile or huge manifest; the manifest itself has all. */
const MAX_ROWS = 50
const MAX_SITES = 12

export function operationsTable({ operations }: Manifest): Html {
  const groups = groupOperations(operations)
  const more = groups.length - MAX_ROWS
  return html`<div class="scroll" role="region" aria-labelledby="operations" tabindex="0"><table>
    <thead><tr><th scope="col">Operation</th><th scope="col">Size</th><th scope="col" class="num">Sites</th><th scope="col">Where</th></tr></thead>
    <tbody>${groups.slice(0, MAX_ROWS).map(
      ({ op, size, sites, count }) => html`<tr>
        <td><code>${op}</code></td><td>${size}</td><td class="num">${countText(count)}</td>
        <td class="sites small">${sites.slice(0, MAX_SITES).map((site) => html`<code>${site}</code><br />`)}${
          sites.length > MAX_SITES ? `and ${countText(sites.length - MAX_SITES)} more` : ''
        }</td></tr>`,
    )}</tbody>
  </table></div>
  ${more > 0 ? html`<p class="muted">and ${countText(more)} more kinds and sizes; the manifest has them.</p>` : ''}`
}
