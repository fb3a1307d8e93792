import type { PackageRecord } from '@graft/sdk/protocol/registry-api.ts'
import { html } from 'hono/html'
import type { Html } from './layout.ts'
import { dateTime } from './package-list.ts'
import { basePath, shortDigest, sizeText, versionPath } from './text.ts'

export type VersionEntry = PackageRecord['versions'][number]

/** The state that matters most, in a word; its reason stands on the version's own page. */
export function statePill({ state = {} }: Pick<VersionEntry, 'state'>): Html | string {
  if (state.tombstoned) return html`<span class="pill bad">removed</span>`
  if (state.yanked) return html`<span class="pill bad">yanked</span>`
  if (state.deprecated) return html`<span class="pill warn">deprecated</span>`
  return ''
}

export const versionsTable = (
  name: string,
  tags: PackageRecord['tags'],
  versions: readonly VersionEntry[],
): Html => html`<div class="scroll" role="region" aria-labelledby="versions" tabindex="0"><table>
  <thead><tr><th scope="col">Version</th><th scope="col">Published</th><th scope="col">Base</th>
  <th scope="col">Method</th><th scope="col" class="num">Size</th><th scope="col">Manifest digest</th></tr></thead>
  <tbody>${versions.map(
    (row) => html`<tr>
      <th scope="row"><a href="${versionPath(name, row.version)}">${row.version}</a>
        ${Object.keys(tags)
          .filter((tag) => tags[tag] === row.version)
          .map((tag) => html` <span class="pill">${tag}</span>`)}
        ${statePill(row)}</th>
      <td class="nowrap">${dateTime(row.publishedAt)}</td>
      <td class="of"><a href="${basePath(row.base.digest)}">${row.base.name}</a></td>
      <td>${row.family}</td>
      <td class="num">${sizeText(row.size)}</td>
      <td><code title="${row.digest}">${shortDigest(row.digest)}</code></td>
    </tr>`,
  )}</tbody>
</table></div>`
