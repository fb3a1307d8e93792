import type { Digest } from '../format/digest.ts'
import type { BaseIdentity, SignedEnvelope } from '../format/manifest.ts'
import type { OperationKind } from '../format/operations.ts'
import type { LogProof } from './log.ts'
import type { Scope } from './tokens.ts'

/*
 * The registry's HTTP surface. Bodies are JSON unless said; errors are ErrorBody. `auth` = Bearer access token.
 *
 *   GET  /healthz
 *   GET  /.well-known/jwks.json                       JSON Web Key Set of the issuer (kid per key)
 *   POST /v1/setup                                    SetupRequest -> TokenAnswer      (one-time code, once)
 *   GET  /v1/whoami                                   auth -> WhoAmI
 *   POST /v1/users                                    auth admin: UserRequest -> TokenAnswer (token of that user's org)
 *   POST /v1/orgs                                     auth: OrgRequest -> Org          (caller becomes owner)
 *   POST /v1/orgs/:org/members                        auth admin: MemberRequest -> {}
 *   GET  /v1/orgs/:org/members                        auth read -> { members: Member[] }
 *   DELETE /v1/orgs/:org/members/:user                auth admin (or one's own): -> {}  (their tokens there die)
 *   POST /v1/orgs/:org/invitations                    auth admin: InvitationRequest -> InvitationAnswer
 *   GET  /v1/orgs/:org/invitations                    auth admin -> { invitations: Invitation[] }
 *   DELETE /v1/orgs/:org/invitations/:id              auth admin: -> {}
 *   POST /v1/invitations/accept                       auth optional: JoinRequest -> JoinAnswer (once per code)
 *   POST /v1/tokens                                   auth: TokenRequest -> TokenAnswer (never more than the caller has)
 *   GET  /v1/tokens?after=&limit=                     auth -> TokenPage                (one's own; with admin everybody's)
 *   POST /v1/tokens/:jti/rotate                       auth: -> TokenAnswer             (one's own; the old one dies)
 *   DELETE /v1/tokens/:jti                            auth: -> {}
 *   DELETE /v1/orgs/:org/tokens                       auth admin: -> TokenAnswer       (all die by a raised epoch; a new one)
 *   GET  /v1/revocations                              -> Revocations                   (ETag; polled by the edge)
 *   POST /v1/orgs/:org/keys                           auth publish: PublisherKey -> PublisherKey
 *   GET  /v1/orgs/:org/keys                           -> { keys: PublisherKey[] }
 *   POST /v1/bases                                    auth publish: BaseRecord -> BaseRecord (idempotent by digest)
 *   GET  /v1/bases/:digest                            -> BaseRecord
 *   GET  /v1/bases?name=                              -> { bases: BaseRecord[] }  (without tensors)
 *   POST /v1/publish                                  auth publish: PublishRequest -> PublishAnswer
 *   PUT  /v1/publish/:id/blobs/:digest                auth publish: raw bytes -> {}
 *   GET  /v1/publish/:id/blobs/:digest/parts          auth publish -> MissingParts     (of a blob that comes in parts)
 *   PUT  /v1/publish/:id/blobs/:digest/parts/:number  auth publish: raw bytes -> {}   (where `url` of a part says so)
 *   DELETE /v1/publish/:id                            auth publish -> {}              (gives the upload up)
 *   POST /v1/publish/:id/complete                     auth publish -> PublishAnswer
 *   GET  /v1/publish/:id                              auth publish -> PublishAnswer
 *   GET  /v1/packages?org=&q=                         auth optional -> { packages: PackageSummary[] }
 *   GET  /v1/packages/:scope/:name                    auth optional -> PackageRecord   (:scope with its @)
 *   PUT  /v1/packages/:scope/:name/tags/:tag          auth publish: { version } -> {}
 *   PUT  /v1/packages/:scope/:name/versions/:version/yank          auth publish: { reason } -> VersionStateAnswer
 *   DELETE .../versions/:version/yank                 auth publish -> VersionStateAnswer
 *   PUT  .../versions/:version/deprecation            auth publish: { message } -> VersionStateAnswer
 *   DELETE .../versions/:version/deprecation          auth publish -> VersionStateAnswer
 *   PUT  .../versions/:version/tombstone              auth admin (owner, or operator): { reason } -> VersionStateAnswer (final)
 *   GET  /v1/resolve?ref=&base=&operations=           auth optional -> Resolution      (ETag; digest refs immutable)
 *          &structure=&maxRank=&licenses=&minReleaseAge=   further demands, each optional; minReleaseAge in seconds
 *   GET  /v1/manifests/:digest                        auth or capability -> VersionRecord (immutable)
 *   GET  /v1/blobs/:digest                            auth or capability -> bytes (immutable; Range)
 *   POST /v1/capabilities                             auth infer: { manifest } -> { token, expiresAt }
 *   GET  /v1/packages/:scope/:name/publishers         auth publish -> { publishers: TrustedPublisher[] }
 *   POST /v1/packages/:scope/:name/publishers         auth admin: TrustedPublisherRequest -> TrustedPublisher
 *   DELETE /v1/packages/:scope/:name/publishers/:id   auth admin: -> {}
 *   POST /oauth/token                                 RFC 8693: a CI's identity token whose aud is this registry's issuer
 *                                                     name, audience=@scope/name -> a token that publishes that, once each
 *   POST /oauth/device_authorization, /oauth/token    RFC 8628 forms and answers: client graft-cli signs a person in
 *   GET  /device, /account, /account/sign-in          pages where a person signs in and decides on that
 *   GET  /account/oidc/:provider, .../callback        sign-in at an OpenID Connect issuer (code + PKCE)
 *   GET  /checkpoint, /tile/..., /v1/log/...          the transparency log: log.ts
 *   GET  /, GET /:scope/:name                         pages for browsers: public packages
 *
 * A private package that the caller may not read answers like one that does not exist.
 */

export interface SetupRequest {
  code: string
  user: string
  org: string
}
export interface UserRequest {
  user: string
  /** Created when new, owned by the user. */
  org: string
}
export interface OrgRequest {
  name: string
}
export interface Org {
  name: string
  createdAt: string
  epoch: number
}
export interface MemberRequest {
  user: string
  role: MemberRole
}
/** An admin runs the organisation but for money, owners, admins, and what cannot be undone. */
export type MemberRole = 'owner' | 'admin' | 'publisher' | 'reader'
/** Workloads of a CI that may publish a package without a kept secret. */
export interface TrustedPublisherRequest {
  /** One of the OpenID Connect issuers that the registry's operator lists. */
  issuer: string
  /** All of which the identity token must have; a value that ends in "*" matches its beginning. */
  claims: Record<string, string>
}
export interface TrustedPublisher extends TrustedPublisherRequest {
  id: string
  package: string
  /** In whose name it publishes; it ends with that member's right to. */
  createdBy: string
  createdAt: string
}
export interface Member {
  user: string
  role: MemberRole
  since: string
}
export interface InvitationRequest {
  role: MemberRole
  /** Seconds from now; at most 30 days. */
  expiresIn: number
}
export interface Invitation {
  id: string
  role: MemberRole
  createdBy: string
  createdAt: string
  expiresAt: string
}
export interface InvitationAnswer {
  id: string
  /** A secret, shown once: whoever has it can join, once. */
  code: string
  role: MemberRole
  expiresAt: string
}
export interface JoinRequest {
  code: string
  /** The name of a new user; left out by one who sends a token of their own. */
  user?: string
}
/** With a token of that person in that organisation. */
export interface JoinAnswer extends TokenAnswer {
  user: string
  org: string
  role: MemberRole
}
export interface TokenRequest {
  org: string
  name: string
  scopes: Scope[]
  /** Seconds from now; at most 366 days. */
  expiresIn: number
}
export interface TokenAnswer {
  token: string
  jti: string
  expiresAt: string
}
/** A token as it is listed: all but the token. */
export interface TokenRecord {
  jti: string
  name: string
  /** In whose name it acts. */
  user: string
  scopes: Scope[]
  createdAt: string
  expiresAt: string
  /** To the minute, as the registry saw it; null when it never did. Calls at the edge are not seen. */
  lastUsedAt: string | null
  /** Absent while it lives. */
  revokedAt?: string
}
export interface TokenPage {
  /** Newest first; expired ones are not listed. */
  tokens: TokenRecord[]
  /** What to ask `after` for the next page; absent on the last. */
  next?: string
}
export interface WhoAmI {
  sub: string
  tenant: string
  scopes: Scope[]
  orgs: { name: string; role: string }[]
}
export interface Revocations {
  /** Revoked token ids not yet expired. */
  tokens: string[]
  /** Lowest valid epoch per tenant. */
  epochs: Record<string, number>
}

/** A publisher's public key; kid is the RFC 7638 thumbprint. */
export interface PublisherKey {
  kid: string
  jwk: JsonWebKey
  status: 'active' | 'revoked'
  createdAt: string
}

/** A base as the registry knows it: identity plus the safetensors headers' names, dtypes and shapes. */
export interface BaseRecord {
  /** sha256 of the canonical JSON of `identity`. */
  digest: Digest
  identity: BaseIdentity
  tensors: { name: string; dtype: string; shape: number[] }[]
}

export type Visibility = 'public' | 'private'

export interface PublishRequest {
  /** Signed manifest; the payload is the canonical manifest bytes. */
  envelope: SignedEnvelope
  /** Signed statements about the manifest's digest (goldens first of all). */
  attestations: SignedEnvelope[]
  visibility: Visibility
  /** Dist-tags to move to this version. @default ["latest"] */
  tags?: string[]
  /** Blobs that the manifest and its attestations name. */
  blobs: { digest: Digest; size: number }[]
}
export type PublishState = 'uploading' | 'verifying' | 'published' | 'failed'
export interface PublishAnswer {
  id: string
  state: PublishState
  /** Blobs still to be sent. */
  missing: {
    digest: Digest
    size: number
    /** Takes the blob whole. */
    url: string
    /** Where to ask for its parts instead; a blob too large for one request comes only so. */
    parts?: string
  }[]
  digest: Digest
  name: string
  version: string
  failure?: { code: string; message: string }
}

/** What was said of a version after it was published; its bytes and its digest stay what they are. */
export interface VersionState {
  /** Ranges and tags do not choose it; digests and lock files still get it. */
  yanked?: { reason: string; at: string }
  /** Chosen only where nothing else fits; the message is for whoever uses it. */
  deprecated?: { message: string; at: string }
  /** Its bytes are gone for good. */
  tombstoned?: { reason: string; at: string }
}
export interface VersionStateAnswer {
  name: string
  version: string
  digest: Digest
  state: VersionState
  /** Tags that now name another version, or still name this one and are refused until they are moved. */
  tags: Record<string, string>
}

/** What is still to be sent of a blob in parts, all of `partSize` bytes but the last. Ask again after an interruption. */
export interface MissingParts {
  partSize: number
  count: number
  /** Numbers from 1. Each takes a PUT of exactly `size` bytes; a URL of another server takes no token and expires. */
  missing: { number: number; size: number; url: string }[]
}

export interface PackageSummary {
  name: string
  description: string
  visibility: Visibility
  latest: string | null
  base: { name: string; digest: Digest }
}
export interface PackageRecord {
  name: string
  visibility: Visibility
  tags: Record<string, string>
  versions: {
    version: string
    digest: Digest
    base: { name: string; digest: Digest }
    operations: OperationKind[]
    family: string
    size: number
    publishedAt: string
    /** Absent while nothing was said of it. */
    state?: VersionState
  }[]
}

export interface Resolution {
  ref: string
  name: string
  version: string
  digest: Digest
  base: { name: string; digest: Digest }
  operations: OperationKind[]
  /** Bytes of adapter.safetensors. */
  size: number
  visibility: Visibility
  /** Newer candidates that were passed over, and why: the newest 20. */
  skipped: { version: string; reason: string }[]
  /** How many more were passed over. */
  skippedMore?: number
  /** Absent while nothing was said of it. */
  state?: VersionState
  /** Asked by structure: the base has these names and shapes, but may hold other bytes than the caller's. */
  baseMatch?: 'structure'
}

export interface VersionRecord {
  digest: Digest
  envelope: SignedEnvelope
  attestations: SignedEnvelope[]
  /** Keys that the signatures name, as the registry holds them. */
  keys: PublisherKey[]
  publishedAt: string
  /** Absent while nothing was said of it. Not signed: the registry's word. */
  state?: VersionState
  /** Never in the registry's answer (GET /v1/manifests/:digest/log has it): kept here by who pulls, for checks offline. */
  log?: LogProof
}
