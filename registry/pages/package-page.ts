import type { LogProof } from '@graft/sdk/protocol/log.ts'
import type { PackageRecord } from '@graft/sdk/protocol/registry-api.ts'
import { html, raw } from 'hono/html'
import type { VersionDescription } from '../packages/describe-version.ts'
import { quantizationText } from './base-page.ts'
import { evaluationTable } from './evaluation.ts'
import type { Html, Page } from './layout.ts'
import { operationsTable } from './operations-table.ts'
import { dateTime, keywordPills, nextPage } from './package-list.ts'
import { renderReadme } from './readme.ts'
import { callSnippets } from './snippets.ts'
import { basePath, countText, packagePath, plural, sizeText } from './text.ts'
import { trustSection } from './trust.ts'
import { type VersionEntry, versionsTable } from './versions-table.ts'

export interface PackageView {
  record: PackageRecord
  /** The version that is shown, as the list has it. */
  entry: VersionEntry
  /** Null when its bytes were removed. */
  version: VersionDescription | null
  /** Null while its publication is still to be logged. */
  proof: LogProof | null
  /** Other bases whose tensors have the same names and shapes. */
  alike: readonly { digest: string; name: string }[]
}

/** Versions on the page itself; the rest has pages of its own. */
const MAX_VERSIONS = 10

export function packagePage(view: PackageView): Page {
  const { record, entry, version } = view
  const { name, versions } = record
  const description = version?.manifest.description ?? ''
  return {
    title: `${name} ${entry.version} · Graft`,
    description: description.slice(0, 200),
    main: html`<h1>${name}</h1>
      <p class="meta"><span>${entry.version}</span><span>published ${dateTime(entry.publishedAt)}</span>
        <span>by <a href="${packagePath(name.split('/')[0]!)}">${name.split('/')[0]}</a></span></p>
      ${description ? html`<p class="lead" dir="auto">${description}</p>` : ''}
      ${keywordPills(version?.manifest.keywords ?? [])}
      ${stateNote(entry)}
      ${version ? localNav(version) : ''}
      <div class="split">
        ${aside(view)}
        <div>
          ${version ? sections(version, view.proof) : ''}
          <h2 id="versions">Versions</h2>
          ${versionsTable(name, record.tags, versions.slice(0, MAX_VERSIONS))}
          ${
            versions.length > MAX_VERSIONS
              ? html`<p><a href="${packagePath(name)}/versions">All ${countText(versions.length)} versions</a></p>`
              : ''
          }
        </div>
      </div>`,
  }
}

const localNav = ({
  readme,
}: VersionDescription): Html => html`<nav aria-label="On this page"><ul class="local">
  ${readme === null ? '' : html`<li><a href="#readme">Readme</a></li>`}
  <li><a href="#call">Call it</a></li><li><a href="#operations">Operations</a></li>
  <li><a href="#evaluation">Evaluation</a></li><li><a href="#trust">Trust</a></li>
  <li><a href="#versions">Versions</a></li>
</ul></nav>`

const sections = (version: VersionDescription, proof: LogProof | null): Html => {
  const { manifest, readme } = version
  return html`${
    readme === null
      ? ''
      : html`<section class="readme" aria-labelledby="readme"><h2 id="readme">Readme</h2>${raw(renderReadme(readme))}</section>`
  }
  <section><h2 id="call">Call it</h2>${callSnippets(manifest.name, manifest.version)}</section>
  <section><h2 id="operations">Operations</h2>${operationsTable(manifest)}</section>
  <section><h2 id="evaluation">Evaluation</h2>${evaluationTable(version.attestations)}</section>
  <section><h2 id="trust">Trust</h2>${trustSection(version, proof)}</section>`
}

function stateNote({ state = {} }: VersionEntry): Html | string {
  const { tombstoned, yanked, deprecated } = state
  const note = (kind: string, what: string, at: string, why: string) =>
    html`<p class="${kind}" dir="auto"><strong>${what}</strong> on ${dateTime(at)}: <bdi>${why}</bdi></p>`
  if (tombstoned) return note('note bad', 'Removed', tombstoned.at, tombstoned.reason)
  if (yanked) return note('note bad', 'Yanked', yanked.at, yanked.reason)
  return deprecated ? note('note', 'Deprecated', deprecated.at, deprecated.message) : ''
}

function aside({ record, entry, version, alike }: PackageView): Html {
  const base = html`<div><dt>Base</dt><dd><a href="${basePath(entry.base.digest)}">${entry.base.name}</a></dd></div>`
  const digest = html`<div class="whole"><dt>Manifest digest</dt><dd><code>${entry.digest}</code></dd></div>`
  return html`<aside aria-label="Facts">
    ${version ? html`<h2>Install</h2><pre tabindex="0"><code>graft pull ${record.name}@${entry.version}</code></pre>` : ''}
    <h2>Facts</h2>
    <dl class="facts">
      ${base}
      ${version ? lineage(version, alike) : ''}
      <div><dt>Size</dt><dd>${sizeText(entry.size)}</dd></div>
      ${version ? details(version) : ''}
      ${digest}
    </dl>
  </aside>`
}

/** What the adapter grew from: the base's own facts, and what else has its shape. */
const lineage = ({ manifest }: VersionDescription, alike: PackageView['alike']): Html => html`
  <div><dt>Architecture</dt><dd>${manifest.base.architecture}</dd></div>
  <div><dt>Base quantisation</dt><dd>${quantizationText(manifest.base)}</dd></div>
  <div><dt>Same structure</dt><dd>${
    alike.length === 0
      ? 'no other registered base'
      : alike.map((other) => html`<a href="${basePath(other.digest)}">${other.name}</a><br />`)
  }</dd></div>`

const details = ({ manifest }: VersionDescription): Html => {
  const { method, tensors, license, origin } = manifest
  const parameters = tensors.reduce((n, { shape }) => n + shape.reduce((a, b) => a * b, 1), 0)
  return html`
  <div><dt>Method</dt><dd>${[method.family, ...method.flags].join(', ')}</dd></div>
  <div><dt>Parameters</dt><dd>${countText(parameters)} in ${plural(tensors.length, 'tensor')}</dd></div>
  <div><dt>Licence</dt><dd>${license ? html`<bdi>${license}</bdi>` : 'not stated'}</dd></div>
  ${origin ? html`<div><dt>Made with</dt><dd>${origin.format} ${origin.toolVersion ?? ''}</dd></div>` : ''}`
}

/** @param next the address of the next page */
export const versionsPage = (
  { name, tags, versions }: PackageRecord,
  rows: readonly VersionEntry[],
  next: string | null,
): Page => ({
  title: `Versions of ${name} · Graft`,
  main: html`<h1 id="versions">Versions of ${name}</h1>
    <p><a href="${packagePath(name)}">${name}</a>: ${plural(versions.length, 'version')}</p>
    ${versionsTable(name, tags, rows)}
    ${nextPage(next)}`,
})
