import type { Digest } from '@graft/sdk/format/digest.ts'
import type { BaseIdentity } from '@graft/sdk/format/manifest.ts'
import { html } from 'hono/html'
import type { PackageRow } from '../packages/browse.ts'
import type { Html, Page } from './layout.ts'
import { nextPage, packageCards } from './package-list.ts'
import { basePath, countText, plural, shortDigest, sizeText } from './text.ts'

export interface BaseView {
  digest: Digest
  identity: BaseIdentity
  /** Other bases with the same tensor names and shapes. */
  alike: readonly { digest: Digest; name: string }[]
  rows: readonly PackageRow[]
  next: string | null
}

export const quantizationText = ({ quantization: q }: BaseIdentity): string =>
  q === null ? 'none' : `${q.method}, ${q.bits} bits in groups of ${q.group}`

const facts = ({ digest, identity }: BaseView): Html => html`<dl class="facts">
  <div><dt>Architecture</dt><dd>${identity.architecture}</dd></div>
  <div><dt>Model type</dt><dd>${identity.modelType}</dd></div>
  <div><dt>Quantisation</dt><dd>${quantizationText(identity)}</dd></div>
  <div><dt>Weights</dt><dd>${plural(identity.files.length, 'file')}, ${sizeText(identity.files.reduce((n, file) => n + file.size, 0))}</dd></div>
  <div class="whole"><dt>Digest</dt><dd><code>${digest}</code></dd></div>
  <div class="whole"><dt>Structure (names, shapes)</dt><dd><code>${identity.structure}</code></dd></div>
  <div class="whole"><dt>Structure with dtypes</dt><dd><code>${identity.structureWithDtype}</code></dd></div>
  <div class="whole"><dt>config.json</dt><dd><code>${identity.configDigest}</code></dd></div>
  <div class="whole"><dt>Tokenizer</dt><dd>${identity.tokenizerDigest === null ? 'not stated' : html`<code>${identity.tokenizerDigest}</code>`}</dd></div>
</dl>`

/** Shards of one model; a page lists no more, the API has all. */
const MAX_FILES = 200

export const basePage = (view: BaseView): Page => {
  const { identity, rows, alike } = view
  return {
    title: `${identity.name} · Graft`,
    main: html`<h1>${identity.name}</h1>
      <p class="lead">A base model, known by its bytes.</p>
      <div class="split">
        <div>
          <h2>Adapters</h2>
          ${rows.length === 0 ? html`<p>No public adapter is for this base.</p>` : packageCards(rows, 3)}
          ${nextPage(view.next)}
          <h2 id="files">Weight files</h2>
          <div class="scroll" role="region" aria-labelledby="files" tabindex="0"><table>
            <thead><tr><th scope="col">File</th><th scope="col" class="num">Bytes</th><th scope="col">SHA-256</th></tr></thead>
            <tbody>${identity.files
              .slice(0, MAX_FILES)
              .map(
                (file) =>
                  html`<tr><td>${file.path}</td><td class="num">${countText(file.size)}</td><td><code>${file.sha256}</code></td></tr>`,
              )}</tbody>
          </table></div>
        </div>
        <aside aria-label="Facts">
          <h2>Identity</h2>
          ${facts(view)}
          <h2>Same structure</h2>
          ${
            alike.length === 0
              ? html`<p class="muted small">No other registered base has these tensor names and shapes.</p>`
              : html`<ul class="cards">${alike.map(
                  (base) =>
                    html`<li><a href="${basePath(base.digest)}">${base.name}</a><br /><code class="small">${shortDigest(base.digest)}</code></li>`,
                )}</ul>`
          }
        </aside>
      </div>`,
  }
}
