import type { LogProof } from '@graft/sdk/protocol/log.ts'
import { html } from 'hono/html'
import type { VersionDescription } from '../packages/describe-version.ts'
import type { Html } from './layout.ts'
import { countText, packagePath } from './text.ts'

/** Who signed the version, and where the log holds it; all of it checked by `graft pull`, none of it to be believed from a page. */
export const trustSection = (
  { digest, manifest, signers }: VersionDescription,
  proof: LogProof | null,
): Html => html`<div class="scroll" role="region" aria-labelledby="trust" tabindex="0"><table>
    <thead><tr><th scope="col">Signature</th><th scope="col">By</th><th scope="col">Algorithm</th><th scope="col">Key</th></tr></thead>
    <tbody>${signers.map(
      ({ kid, alg, key }) => html`<tr>
        <td class="sites small"><code>${kid}</code></td>
        <td>${owner(manifest.name)}</td><td>${alg}</td>
        <td>${
          key === null
            ? html`<span class="pill warn">not known here</span>`
            : key.status === 'active'
              ? 'active'
              : html`<span class="pill bad">revoked since</span>`
        }</td></tr>`,
    )}</tbody>
  </table></div>
  <p>${logLine(digest, proof)} <code>graft pull</code> checks signatures, digests and shapes on your machine.</p>`

const owner = (name: string): Html => {
  const [scope] = name.split('/')
  return html`<a href="${packagePath(scope!)}">${scope}</a>`
}

/** A checkpoint's first lines are origin and size (C2SP tlog-checkpoint). */
function logLine(digest: string, proof: LogProof | null): Html {
  if (proof === null) return html`Not in this registry's log yet.`
  const [origin, size] = proof.checkpoint.split('\n')
  return html`Entry <strong>${countText(proof.index)}</strong> of the log <code>${origin}</code>, under a checkpoint of
    ${countText(Number(size))} entries: <a href="/v1/manifests/${digest}/log">inclusion proof</a>,
    <a href="/checkpoint">checkpoint</a>.`
}
