import { html } from 'hono/html'
import type { PackageRow } from '../packages/browse.ts'
import type { BaseCount } from '../packages/facets.ts'
import type { Html, Page } from './layout.ts'
import { packageCards } from './package-list.ts'
import { basePath, plural, shortDigest } from './text.ts'

export const baseList = (bases: readonly BaseCount[]): Html => html`<ul class="cards">
  ${bases.map(
    ({ digest, name, packages }) => html`<li>
      <a href="${basePath(digest)}"><strong>${name}</strong></a>
      <p class="meta"><span>${plural(packages, 'adapter')}</span><code>${shortDigest(digest)}</code></p>
    </li>`,
  )}
</ul>`

export const homePage = (recent: readonly PackageRow[], bases: readonly BaseCount[]): Page => ({
  title: 'Graft: adapters for open models',
  description:
    'Adapters as packages: signed, immutable, resolved by semver for the base they were made for.',
  search: false,
  main: html`<div class="hero">
      <h1>Small adapters that teach a model one thing</h1>
      <p class="lead">Signed packages with versions that never change, resolved by semver for the very base they were
      trained on.</p>
      <form class="find" role="search" action="/search">
        <label class="skip" for="find">Search adapters</label>
        <input id="find" name="q" type="search" placeholder="sql, summaries, @acme/..." maxlength="200" />
        <button>Search</button>
      </form>
    </div>
    <div class="split">
      <section aria-labelledby="recent">
        <h2 id="recent">Published last</h2>
        ${recent.length === 0 ? html`<p>Nothing is published yet.</p>` : packageCards(recent, 3)}
        <p><a href="/search">All adapters</a></p>
      </section>
      <aside aria-label="Bases and publishing">
        <h2>Bases</h2>
        ${bases.length === 0 ? html`<p class="muted">None yet.</p>` : baseList(bases)}
        <h2>Publish yours</h2>
        <pre tabindex="0"><code>graft publish ./my-adapter \\
  --name @you/sql \\
  --version 1.0.0</code></pre>
        <p class="muted small">Folders of PEFT, AdapterHub, MLX, Kohya, GGUF and ONNX Runtime, as they were saved.</p>
      </aside>
    </div>`,
})

export const basesPage = (bases: readonly BaseCount[]): Page => ({
  title: 'Bases · Graft',
  main: html`<h1>Bases</h1>
    <p class="lead">An adapter is made for the bytes of one base model. Same name, other bytes: another base.</p>
    ${bases.length === 0 ? html`<p>No public adapter names a base yet.</p>` : baseList(bases)}`,
})
