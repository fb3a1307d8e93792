import { baseDigest } from '@graft/sdk/format/base-identity.ts'
import { canonicalJson } from '@graft/sdk/format/canonical-json.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { Manifest } from '@graft/sdk/format/manifest.ts'
import type { BaseRecord, Visibility } from '@graft/sdk/protocol/registry-api.ts'
import type { RegistryDeps } from '../deps.ts'
import { type Caller, requireScope } from '../identity/caller.ts'
import { findBase } from '../packages/bases.ts'
import { first } from '../stores/catalogue.ts'

/** `@acme/sql` -> `acme`. */
export const orgOf = (name: string): string => name.slice(1, name.indexOf('/'))

/** Semver compares versions without their build metadata, so that is what one version takes. */
export const precedenceOf = (version: string): string => version.split('+', 1)[0]!

/** @throws ERR_FORBIDDEN unless the caller may publish under this name */
export function assertMayPublish(caller: Caller, name: string): void {
  requireScope(caller, 'publish')
  if (caller.package !== null && caller.package !== name)
    throw new GraftError(
      'ERR_FORBIDDEN',
      `the token publishes ${caller.package} alone, and not ${name}`,
    )
  if (orgOf(name) === caller.tenant) return
  throw new GraftError(
    'ERR_FORBIDDEN',
    `the token publishes as @${caller.tenant}/..., and ${name} is another organisation's`,
  )
}

export interface TakenVersion {
  digest: Digest
  upload: string
  /** Why its bytes were removed. */
  tombstoned: string | null
}

/** Who holds name@version; null when it is free. Versions that differ only in build metadata are the same. */
export const findTaken = (
  deps: RegistryDeps,
  name: string,
  version: string,
): Promise<TakenVersion | null> =>
  first<TakenVersion>(
    deps.catalogue,
    'SELECT digest, upload, tombstoned FROM versions WHERE package = ? AND precedence = ?',
    name,
    precedenceOf(version),
  )

export const versionExists = (name: string, version: string): GraftError =>
  new GraftError(
    'ERR_VERSION_EXISTS',
    `${name}@${version} is already published with other bytes, and a version never changes; raise the version`,
  )

export const versionRemoved = (name: string, version: string, reason: string): GraftError =>
  new GraftError(
    'ERR_VERSION_EXISTS',
    `${name}@${version} was removed for good (${reason}), and a version is never used twice; raise the version`,
  )

/** The base as registered. @throws ERR_BASE_UNKNOWN, ERR_BASE_MISMATCH */
export async function findManifestBase(
  deps: RegistryDeps,
  manifest: Manifest,
): Promise<BaseRecord> {
  const digest = await baseDigest(manifest.base)
  const base = await findBase(deps, digest)
  if (base === null)
    throw new GraftError(
      'ERR_BASE_UNKNOWN',
      `${manifest.name}@${manifest.version} is for base "${manifest.base.name}" (${digest}), which is not registered here; register the base first, or import the adapter against a registered one`,
    )
  if (canonicalJson(base.identity) !== canonicalJson(manifest.base))
    throw new GraftError('ERR_BASE_MISMATCH', expected('base', 'the registered identity', digest))
  return base
}

/** A package is public or private as a whole. @throws ERR_REQUEST_INVALID */
export async function assertVisibility(
  deps: RegistryDeps,
  name: string,
  visibility: Visibility,
): Promise<void> {
  const row = await first<{ visibility: Visibility }>(
    deps.catalogue,
    'SELECT visibility FROM packages WHERE name = ?',
    name,
  )
  if (row === null || row.visibility === visibility) return
  throw new GraftError(
    'ERR_REQUEST_INVALID',
    expected('visibility', `"${row.visibility}", as ${name} already is`, visibility),
  )
}
