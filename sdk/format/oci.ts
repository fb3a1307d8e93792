import { baseDigest } from './base-identity.ts'
import { canonicalBytes } from './canonical-json.ts'
import { type Digest, sha256 } from './digest.ts'
import { MANIFEST_MEDIA_TYPE } from './dsse.ts'
import type { Manifest } from './manifest.ts'
import { manifestBytes } from './parse-manifest.ts'

/** OCI image-spec 1.1, descriptor.md. */
export interface OciDescriptor {
  mediaType: string
  digest: Digest
  size: number
  annotations?: Record<string, string>
}

/** OCI image-spec 1.1, manifest.md, as an artifact. */
export interface OciManifest {
  schemaVersion: 2
  mediaType: typeof OCI_MANIFEST_TYPE
  artifactType: string
  config: OciDescriptor
  layers: OciDescriptor[]
  subject?: OciDescriptor
  annotations?: Record<string, string>
}

export const OCI_MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json'
export const ADAPTER_ARTIFACT_TYPE = 'application/vnd.graft.adapter.v1'

/** What is said about an adapter, each as a referrer of it. */
export const REFERRER_TYPES = {
  signature: 'application/vnd.graft.signature.v1+json',
  attestation: 'application/vnd.graft.attestation.v1+json',
  dsse: 'application/vnd.dsse.envelope.v1+json',
  oms: 'application/vnd.dev.sigstore.bundle.v0.3+json',
} as const

const TITLE = 'org.opencontainers.image.title'

const describe = async (mediaType: string, bytes: Uint8Array): Promise<OciDescriptor> => ({
  mediaType,
  digest: await sha256(bytes),
  size: bytes.length,
})

/** Canonical JSON, so that an adapter has one digest in every OCI registry. */
export const ociBytes = (manifest: OciManifest): Uint8Array<ArrayBuffer> => canonicalBytes(manifest)

/** The adapter's manifest is the config blob: its digest is the version's. Files are the layers, in the order of `files`. */
export async function ociManifest(manifest: Manifest): Promise<OciManifest> {
  const { name, version, description, license, base, files } = manifest
  return {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST_TYPE,
    artifactType: ADAPTER_ARTIFACT_TYPE,
    config: await describe(MANIFEST_MEDIA_TYPE, manifestBytes(manifest)),
    layers: files.map(({ path, size, sha256: digest, mediaType }) => ({
      ...{ mediaType, digest, size },
      annotations: { [TITLE]: path },
    })),
    annotations: {
      [TITLE]: name,
      'org.opencontainers.image.version': version,
      ...(description ? { 'org.opencontainers.image.description': description } : {}),
      ...(license ? { 'org.opencontainers.image.licenses': license } : {}),
      'graft.base.name': base.name,
      'graft.base.digest': await baseDigest(base),
      'graft.base.structure': base.structure,
    },
  }
}

/**
 * A document about an adapter.
 * @param document bytes of a signature or statement
 * @param blobs what the document names (the logits of goldens)
 */
export async function ociReferrer(
  subject: OciManifest,
  type: keyof typeof REFERRER_TYPES,
  document: Uint8Array,
  blobs: readonly OciDescriptor[] = [],
): Promise<OciManifest> {
  const mediaType = REFERRER_TYPES[type]
  return {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST_TYPE,
    artifactType: mediaType,
    config: await describe('application/vnd.oci.empty.v1+json', new TextEncoder().encode('{}')),
    layers: [await describe(mediaType, document), ...blobs],
    subject: await describe(OCI_MANIFEST_TYPE, ociBytes(subject)),
  }
}
