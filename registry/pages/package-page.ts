import type { PackageRecord } from '@graft/sdk/protocol/registry-api.ts'
import { html } from 'hono/html'
import { type Html, layout } from './layout.ts'

const KIB = 1024
const sizeText = (bytes: number): string =>
  bytes < KIB
    ? `${bytes} B`
    : bytes < KIB ** 2
      ? `${(bytes / KIB).toFixed(1)} KiB`
      : `${(bytes / KIB ** 2).toFixed(1)} MiB`

export const packagePage = ({ name, tags, versions }: PackageRecord): Html =>
  layout(
    name,
    html`<p><a href="/">All adapters</a></p>
      <h1>${name}</h1>
      <p><code>graft pull ${name}</code></p>
      <table>
        <thead>
          <tr><th>Version</th><th>Tags</th><th>Base</th><th>Method</th><th>Size</th><th>Published</th></tr>
        </thead>
        <tbody>
          ${versions.map(
            (row) => html`<tr>
              <td>${row.version}<br /><code>${row.digest}</code></td>
              <td>${Object.keys(tags)
                .filter((tag) => tags[tag] === row.version)
                .join(', ')}</td>
              <td>${row.base.name}</td>
              <td>${row.family} (${row.operations.join(', ')})</td>
              <td>${sizeText(row.size)}</td>
              <td><time datetime="${row.publishedAt}">${row.publishedAt.slice(0, 10)}</time></td>
            </tr>`,
          )}
        </tbody>
      </table>`,
  )
