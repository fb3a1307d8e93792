import { GOLDENS_PREDICATE, type Goldens, type Statement } from '@graft/sdk/format/manifest.ts'
import { html } from 'hono/html'
import type { Signer, VersionDescription } from '../packages/describe-version.ts'
import type { Html } from './layout.ts'
import { plural } from './text.ts'

/** Fields shown of a statement that is not known here, and letters of each. */
const MAX_FIELDS = 12
const MAX_FIELD_LENGTH = 120

/** What the statements about a version say, one row each. */
export function evaluationTable(attestations: VersionDescription['attestations']): Html {
  if (attestations.length === 0)
    return html`<p class="muted">Nobody has attested how this version behaves: a runner cannot prove that it computes what
      the author trained.</p>`
  return html`<div class="scroll" role="region" aria-labelledby="evaluation" tabindex="0"><table>
    <thead><tr><th scope="col">Statement</th><th scope="col">Made with</th><th scope="col">Says</th><th scope="col">Signed by key</th></tr></thead>
    <tbody>${attestations.map(
      ({ statement, signers }) =>
        html`<tr>${cells(statement)}<td class="sites small">${kids(signers)}</td></tr>`,
    )}</tbody>
  </table></div>`
}

const kids = (signers: readonly Signer[]): Html[] =>
  signers.map(({ kid }) => html`<code>${kid}</code><br />`)

function cells({ predicateType, predicate }: Statement): Html {
  if (predicateType === GOLDENS_PREDICATE) return goldensCells(predicate as Goldens)
  return html`<td><code>${predicateType}</code></td><td></td><td>${fields(predicate)}</td>`
}

function goldensCells({ producer, basePrecision, prompts }: Goldens): Html {
  const positions = prompts.reduce((n, prompt) => n + prompt.positions.length, 0)
  const tokens = prompts.reduce((n, prompt) => n + prompt.greedy.tokenIds.length, 0)
  const margins = prompts.flatMap((prompt) => prompt.greedy.margins)
  const least = margins.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY)
  return html`<td>Goldens: answers to reproduce</td><td>${producer}, base in ${basePrecision}</td>
    <td class="says">${plural(prompts.length, 'prompt')}: logits at ${plural(positions, 'position')}, ${plural(tokens, 'greedy token')}${
      margins.length > 0 ? `, the closest won by ${least.toPrecision(3)}` : ''
    }</td>`
}

/** Plain values of an object by name; nested ones are for programs. */
function fields(predicate: unknown): Html {
  const plain = Object.entries(predicate as Record<string, unknown>).filter(([, value]) =>
    ['string', 'number', 'boolean'].includes(typeof value),
  )
  return html`${plain
    .slice(0, MAX_FIELDS)
    .map(
      ([name, value]) =>
        html`<bdi>${name}: ${String(value).slice(0, MAX_FIELD_LENGTH)}</bdi><br />`,
    )}`
}
