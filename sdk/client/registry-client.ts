import { baseDigest } from '../format/base-identity.ts'
import { type Digest, parseDigest } from '../format/digest.ts'
import { expected, GraftError } from '../format/errors.ts'
import type { Manifest } from '../format/manifest.ts'
import type { OperationKind } from '../format/operations.ts'
import { formatAdapterReference, parseAdapterReference } from '../format/parse-reference.ts'
import { verifyAdapter } from '../format/verify-adapter.ts'
import type {
  BaseRecord,
  InvitationAnswer,
  InvitationRequest,
  JoinAnswer,
  JoinRequest,
  Member,
  MemberRequest,
  Org,
  PackageRecord,
  PackageSummary,
  PublisherKey,
  Resolution,
  SetupRequest,
  TokenAnswer,
  TokenPage,
  TokenRequest,
  UserRequest,
  VersionRecord,
  VersionStateAnswer,
  WhoAmI,
} from '../protocol/registry-api.ts'
import { type DownloadOptions, download } from './download.ts'
import { type ClientOptions, createHttp, type HttpRequest } from './http.ts'
import { createLogClient } from './log-client.ts'
import { path, query } from './path.ts'
import { type Published, type PublishOptions, publish } from './publish.ts'
import { type VerifiedVersion, verifyVersion } from './verify-version.ts'

export interface ResolveOptions {
  /** `@scope/name@range`, `@scope/name@tag` or `@scope/name@sha256:...`. */
  ref: string
  /** Only versions for this base. */
  base?: Digest
  /** Only versions for a base with these tensor names and shapes (BaseIdentity.structure), whatever its bytes. */
  structure?: Digest
  /** Only versions that a runtime with these operations can serve. */
  operations?: readonly OperationKind[]
  /** Only versions of at most this rank. */
  maxRank?: number
  /** Only versions under these licences (SPDX ids). */
  licences?: readonly string[]
  /** Only versions published at least so many seconds ago. */
  minReleaseAge?: number
}

export interface PullOptions extends Omit<ResolveOptions, 'ref'> {
  signal?: AbortSignal
  onProgress?: (done: number, total: number) => void
  /** Key ids, one of which must have signed; for who pins publishers. */
  signers?: readonly string[]
}

/** An adapter with everything about it proven that can be: signatures, digests, tensors, shapes against its base. */
export interface PulledAdapter extends VerifiedVersion {
  manifest: Manifest
  /** adapter.safetensors. */
  safetensors: Uint8Array<ArrayBuffer>
  resolution: Resolution
}

export type RegistryClient = ReturnType<typeof createRegistryClient>

/**
 * The registry over HTTP. Every call throws GraftError with the registry's own code, or ERR_UNREACHABLE and ERR_TIMEOUT;
 * whatever is addressed by a digest is checked against it before it is given out.
 */
export function createRegistryClient(options: ClientOptions) {
  const http = createHttp(options, 'registry URL')

  const get = <T>(target: string, what: string): Promise<T> =>
    http.json<T>({ method: 'GET', path: target, what })
  const post = <T>(
    target: string,
    json: unknown,
    what: string,
    extra: Partial<HttpRequest> = {},
  ): Promise<T> => http.json<T>({ method: 'POST', path: target, json, what, ...extra })

  async function base(digest: Digest | string): Promise<BaseRecord> {
    const record = await get<BaseRecord>(path`/v1/bases/${parseDigest(digest)}`, `base ${digest}`)
    const got = await baseDigest(record.identity)
    if (got === digest) return record
    throw new GraftError('ERR_DIGEST_MISMATCH', expected('base identity', digest, got))
  }

  async function manifest(
    digest: Digest | string,
    signers: readonly string[] = [],
  ): Promise<VerifiedVersion> {
    const id = parseDigest(digest, 'manifest digest')
    const record = await get<VersionRecord>(path`/v1/manifests/${id}`, `manifest ${id}`)
    return verifyVersion(record, id, signers)
  }

  const blob = (digest: Digest | string, how?: DownloadOptions): Promise<Uint8Array<ArrayBuffer>> =>
    download(http, parseDigest(digest, 'blob digest'), how)

  async function resolve({ ref, base, structure, ...how }: ResolveOptions): Promise<Resolution> {
    const reference = parseAdapterReference(ref)
    const search = query({
      ...{ ref, base, structure },
      operations: how.operations?.join(','),
      maxRank: how.maxRank?.toString(),
      licences: how.licences?.join(','),
      minReleaseAge: how.minReleaseAge?.toString(),
    })
    const resolution = await get<Resolution>(`/v1/resolve${search}`, `resolve ${ref}`)
    const { selector } = reference
    const asked = selector.kind === 'digest' ? selector.digest : resolution.digest
    if (resolution.name === reference.package && resolution.digest === asked) return resolution
    throw new GraftError(
      'ERR_DIGEST_MISMATCH',
      expected(
        `the registry's answer to ${formatAdapterReference(reference)}`,
        'about it',
        `${resolution.name}@${resolution.digest}`,
      ),
    )
  }

  /** @throws what resolve, manifest, blob and verifyAdapter throw */
  async function pull(ref: string, how: PullOptions = {}): Promise<PulledAdapter> {
    const { signal, onProgress, signers, ...ask } = how
    const resolution = await resolve({ ref, ...ask })
    const version = await manifest(resolution.digest, signers)
    const { name, files } = version.manifest
    if (name !== resolution.name || version.manifest.version !== resolution.version)
      throw new GraftError(
        'ERR_DIGEST_MISMATCH',
        expected(
          'the signed manifest',
          `${resolution.name}@${resolution.version}`,
          `${name}@${version.manifest.version}`,
        ),
      )
    const canonical = files.find((file) => file.role === 'canonical')
    if (canonical === undefined)
      throw new GraftError(
        'ERR_MANIFEST_INVALID',
        expected('files', 'one canonical file', files.length),
      )
    const [safetensors, { tensors }] = await Promise.all([
      blob(canonical.sha256, {
        size: canonical.size,
        signal,
        onProgress: (done) => onProgress?.(done, canonical.size),
      }),
      base(resolution.base.digest),
    ])
    const stated = await baseDigest(version.manifest.base)
    if (stated !== resolution.base.digest)
      throw new GraftError(
        'ERR_BASE_MISMATCH',
        expected('the base of the signed manifest', resolution.base.digest, stated),
      )
    await verifyAdapter(version.manifest, safetensors, tensors)
    return { ...version, safetensors, resolution }
  }

  /** Says something of a published version; null takes it back. */
  function state(
    name: string,
    version: string,
    what: 'yank' | 'deprecation' | 'tombstone',
    json: object | null,
  ): Promise<VersionStateAnswer> {
    const target = `/v1/packages/${packagePath(name)}/versions/${path`${version}`}/${what}`
    const about = { path: target, what: `${what} of ${name}@${version}` }
    return http.json<VersionStateAnswer>(
      json === null ? { method: 'DELETE', ...about } : { method: 'PUT', json, ...about },
    )
  }

  return {
    url: http.url,
    setup: (request: SetupRequest) => post<TokenAnswer>('/v1/setup', request, 'setup'),
    whoami: () => get<WhoAmI>('/v1/whoami', 'whoami'),
    createUser: (request: UserRequest) => post<TokenAnswer>('/v1/users', request, 'create user'),
    createOrg: (name: string) => post<Org>('/v1/orgs', { name }, `create organisation ${name}`),
    addMember: (org: string, member: MemberRequest) =>
      post<object>(path`/v1/orgs/${org}/members`, member, `add member to ${org}`, {
        idempotent: true,
      }),
    members: async (org: string): Promise<Member[]> =>
      (await get<{ members: Member[] }>(path`/v1/orgs/${org}/members`, `members of ${org}`))
        .members,
    removeMember: (org: string, user: string) =>
      http.json<object>({
        method: 'DELETE',
        path: path`/v1/orgs/${org}/members/${user}`,
        what: `remove ${user} from ${org}`,
      }),
    /** The code in the answer makes whoever has it a member, once. */
    invite: (org: string, request: InvitationRequest) =>
      post<InvitationAnswer>(path`/v1/orgs/${org}/invitations`, request, `invite to ${org}`),
    /** Joins by a code: with this client's token, or as a new user. */
    join: (request: JoinRequest) =>
      post<JoinAnswer>('/v1/invitations/accept', request, 'accept an invitation'),
    createToken: (request: TokenRequest) => post<TokenAnswer>('/v1/tokens', request, 'new token'),
    /** Newest first. */
    tokens: (after?: string) => get<TokenPage>(`/v1/tokens${query({ after })}`, 'tokens'),
    /** A new token like this one, which dies. */
    rotateToken: (jti: string) =>
      post<TokenAnswer>(path`/v1/tokens/${jti}/rotate`, {}, `renew token ${jti}`),
    revokeToken: (jti: string) =>
      http.json<object>({
        method: 'DELETE',
        path: path`/v1/tokens/${jti}`,
        what: `revoke token ${jti}`,
      }),
    /** Revokes every token of the organisation; the answer is a new one. */
    revokeAllTokens: (org: string) =>
      http.json<TokenAnswer>({
        method: 'DELETE',
        path: path`/v1/orgs/${org}/tokens`,
        // Done twice, it would revoke the token that the first answer gave.
        idempotent: false,
        what: `revoke the tokens of ${org}`,
      }),
    /** Registers a public key; with status "revoked" ends it for good. */
    addKey: (org: string, jwk: JsonWebKey, status: PublisherKey['status'] = 'active') =>
      post<PublisherKey>(path`/v1/orgs/${org}/keys`, { jwk, status }, `key of ${org}`, {
        idempotent: true,
      }),
    keys: async (org: string): Promise<PublisherKey[]> =>
      (await get<{ keys: PublisherKey[] }>(path`/v1/orgs/${org}/keys`, `keys of ${org}`)).keys,
    putBase: (record: BaseRecord) =>
      post<BaseRecord>('/v1/bases', record, `base ${record.identity.name}`, { idempotent: true }),
    base,
    /** Without `tensors`; `base(digest)` has them. */
    bases: async (name?: string): Promise<Omit<BaseRecord, 'tensors'>[]> =>
      (await get<{ bases: BaseRecord[] }>(`/v1/bases${query({ name })}`, 'bases')).bases,
    publish: (what: PublishOptions): Promise<Published> => publish(http, what),
    resolve,
    manifest,
    blob,
    pull,
    /** The transparency log, unproven; checkLog proves a pulled version by it. */
    log: createLogClient(http),
    setTag: (name: string, tag: string, version: string) =>
      http.json<object>({
        method: 'PUT',
        path: `/v1/packages/${packagePath(name)}/tags/${path`${tag}`}`,
        json: { version },
        what: `tag ${name}@${tag}`,
      }),
    /** No range or tag chooses it any more; digests and lock files still get it. */
    yank: (name: string, version: string, reason: string) =>
      state(name, version, 'yank', { reason }),
    unyank: (name: string, version: string) => state(name, version, 'yank', null),
    /** Chosen only where nothing else fits, and then with this message. */
    deprecate: (name: string, version: string, message: string) =>
      state(name, version, 'deprecation', { message }),
    undeprecate: (name: string, version: string) => state(name, version, 'deprecation', null),
    /** For law and leaked secrets: the bytes go for good. */
    tombstone: (name: string, version: string, reason: string) =>
      state(name, version, 'tombstone', { reason }),
    packages: async (search: { org?: string; q?: string } = {}): Promise<PackageSummary[]> =>
      (await get<{ packages: PackageSummary[] }>(`/v1/packages${query(search)}`, 'packages'))
        .packages,
    package: (name: string) => get<PackageRecord>(`/v1/packages/${packagePath(name)}`, name),
    capability: (manifest: Digest) =>
      post<{ token: string; expiresAt: string }>(
        '/v1/capabilities',
        { manifest },
        `capability for ${manifest}`,
        { idempotent: true },
      ),
  }
}

/** `@scope/name` as two segments. */
function packagePath(name: string): string {
  const [scope = '', rest = ''] = name.split('/', 2)
  return path`${scope}/${rest}`
}
