import { html } from 'hono/html'
import type { PackageRow } from '../packages/browse.ts'
import type { BaseCount, FamilyCount } from '../packages/facets.ts'
import type { Html, Page } from './layout.ts'
import { nextPage, packageCards } from './package-list.ts'
import { shortDigest } from './text.ts'

/** The filters as the address has them; empty is no filter. */
export interface Filters {
  q: string
  base: string
  method: string
  keyword: string
  sort: string
}

export interface SearchResult {
  filters: Filters
  rows: readonly PackageRow[]
  families: readonly FamilyCount[]
  bases: readonly BaseCount[]
  next: string | null
}

const option = (value: string, text: string, chosen: string): Html =>
  html`<option value="${value}" ${value === chosen ? 'selected' : ''}>${text}</option>`

/** A value that is no choice of the list is shown all the same, since it filters. */
const missing = (value: string, known: readonly string[], text = value): Html | string =>
  value === '' || known.includes(value) ? '' : option(value, text, value)

const filterForm = ({
  filters,
  families,
  bases,
}: SearchResult): Html => html`<form class="filters" role="search" action="/search">
  <p class="words"><label for="q">Words</label>
    <input id="q" name="q" type="search" value="${filters.q}" maxlength="200" /></p>
  <p><label for="base">Base</label><select id="base" name="base">
    ${option('', 'any', filters.base)}
    ${missing(
      filters.base,
      bases.map((b) => b.digest),
      shortDigest(filters.base),
    )}
    ${bases.map((b) => option(b.digest, `${b.name} (${b.packages})`, filters.base))}
  </select></p>
  <p><label for="method">Method</label><select id="method" name="method">
    ${option('', 'any', filters.method)}
    ${missing(
      filters.method,
      families.map((f) => f.family),
    )}
    ${families.map((f) => option(f.family, `${f.family} (${f.packages})`, filters.method))}
  </select></p>
  <p><label for="keyword">Keyword</label><input id="keyword" name="keyword" value="${filters.keyword}" maxlength="100" size="12" /></p>
  <p><label for="sort">Order</label><select id="sort" name="sort">
    ${option('updated', 'newest first', filters.sort)}${option('name', 'by name', filters.sort)}
  </select></p>
  <button>Apply</button>
</form>`

export function searchPage(result: SearchResult): Page {
  const { filters, rows, next } = result
  const asked = filters.q || filters.keyword
  return {
    title: asked ? `${asked} · Graft` : 'Adapters · Graft',
    search: false,
    main: html`<h1>Adapters</h1>
      ${filterForm(result)}
      ${
        rows.length === 0
          ? html`<p role="status">No public adapter matches. <a href="/search">Show all</a></p>`
          : packageCards(rows, 2)
      }
      ${nextPage(next)}`,
  }
}
