import { decodeBase64url } from '@graft/sdk/format/base64url.ts'
import { cardOf, MAX_CARD_BYTES } from '@graft/sdk/format/card.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import type { Manifest, SignedEnvelope, Statement } from '@graft/sdk/format/manifest.ts'
import type { PublisherKey } from '@graft/sdk/protocol/registry-api.ts'
import type { RegistryDeps } from '../deps.ts'
import type { Reader } from '../identity/authenticate.ts'
import { readAll } from '../stores/blob-store.ts'
import { readVersion } from './read-version.ts'

/** Who signed: the key's id, and the key where the registry still holds it. */
export interface Signer {
  kid: string
  alg: string
  key: PublisherKey | null
}

export interface VersionDescription {
  digest: Digest
  publishedAt: string
  manifest: Manifest
  signers: Signer[]
  attestations: { statement: Statement; signers: Signer[] }[]
  /** Markdown, as its author wrote it. */
  readme: string | null
}

/** All that a page tells of a version. What was signed was checked when it was published. @throws ERR_VERSION_UNKNOWN */
export async function describeVersion(
  deps: RegistryDeps,
  reader: Reader,
  digest: Digest,
): Promise<VersionDescription> {
  const { record } = await readVersion(deps, reader, digest)
  const payload = <T>({ payload }: SignedEnvelope): T => parse<T>(decodeBase64url(payload))
  const signers = ({ signatures }: SignedEnvelope): Signer[] =>
    signatures.map((signature) => {
      const { kid, alg } = parse<{ kid: string; alg: string }>(decodeBase64url(signature.protected))
      return { kid, alg, key: record.keys.find((key) => key.kid === kid) ?? null }
    })
  const manifest = payload<Manifest>(record.envelope)
  return {
    digest,
    publishedAt: record.publishedAt,
    manifest,
    signers: signers(record.envelope),
    attestations: record.attestations.map((envelope) => ({
      statement: payload<Statement>(envelope),
      signers: signers(envelope),
    })),
    readme: await readCard(deps, manifest),
  }
}

const parse = <T>(bytes: Uint8Array): T => JSON.parse(new TextDecoder().decode(bytes)) as T

async function readCard(deps: RegistryDeps, manifest: Manifest): Promise<string | null> {
  const card = cardOf(manifest)
  if (card === null) return null
  const body = await deps.blobs.get(card.sha256)
  if (body === null) throw new Error(`card ${card.sha256} is gone from the store`)
  return new TextDecoder().decode(await readAll(body, MAX_CARD_BYTES, `card ${card.sha256}`))
}
