import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { thumbprint } from '@graft/sdk/format/jws.ts'
import type { PublisherKey } from '@graft/sdk/protocol/registry-api.ts'
import { nowIso, type RegistryDeps } from '../deps.ts'
import { appendEvent } from '../log/append-event.ts'
import { eventRow } from '../packages/events.ts'
import { sql } from '../stores/catalogue.ts'
import { type Caller, requireScope, requireTenant } from './caller.ts'

interface KeyRow {
  kid: string
  jwk: string
  created_at: string
  revoked_at: string | null
}

/** Every key that the organisation ever had, oldest first: old signatures stay checkable. */
export async function listPublisherKeys(deps: RegistryDeps, org: string): Promise<PublisherKey[]> {
  const rows = await deps.catalogue.query<KeyRow>(
    'SELECT kid, jwk, created_at, revoked_at FROM publisher_keys WHERE org = ? ORDER BY created_at, kid',
    [org],
  )
  return rows.map((row) => ({
    kid: row.kid,
    jwk: JSON.parse(row.jwk) as JsonWebKey,
    status: row.revoked_at === null ? 'active' : 'revoked',
    createdAt: row.created_at,
  }))
}

/** A point off the curve or a short key would only fail at the first signature; refuse it here. */
async function assertPublicKey(jwk: PublicJwk): Promise<void> {
  const algorithm = jwk.kty === 'OKP' ? { name: 'Ed25519' } : { name: 'ECDSA', namedCurve: 'P-256' }
  try {
    await crypto.subtle.importKey('jwk', jwk, algorithm, true, ['verify'])
  } catch (cause) {
    throw new GraftError('ERR_REQUEST_INVALID', expected('jwk', 'a valid public key', jwk), {
      cause,
    })
  }
}

/** The members that are the key, and nothing else that a caller's JWK may carry. */
export interface PublicJwk {
  kty: string
  crv: string
  x: string
  y?: string
}
const membersOf = ({ kty, crv, x, y }: PublicJwk): PublicJwk => ({
  ...{ kty, crv, x },
  ...(y === undefined ? {} : { y }),
})

/** What a caller says of a key; the registry knows the rest. */
export interface KeyRequest {
  jwk: PublicJwk
  kid?: string | undefined
  status?: PublisherKey['status'] | undefined
}

/**
 * Adds a key, or with status "revoked" ends one; a revoked key never comes back.
 * @throws ERR_REQUEST_INVALID, ERR_KEY_UNKNOWN, ERR_KEY_REVOKED
 */
export async function putPublisherKey(
  deps: RegistryDeps,
  caller: Caller,
  org: string,
  request: KeyRequest,
): Promise<PublisherKey> {
  requireTenant(caller, org)
  requireScope(caller, 'publish')
  const members = membersOf(request.jwk)
  const kid = await thumbprint(members)
  if (request.kid !== undefined && request.kid !== kid)
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      expected('kid', `the thumbprint ${kid}`, request.kid),
    )
  await assertPublicKey(members)
  const find = async () => (await listPublisherKeys(deps, org)).find((key) => key.kid === kid)
  const known = await find()
  const status = request.status ?? 'active'
  if (known?.status === 'revoked' && status === 'active')
    throw new GraftError('ERR_KEY_REVOKED', `key ${kid} of ${org} was revoked; make a new one`)
  if (known?.status === status) return known
  const at = nowIso(deps)
  const jwk = { ...members, kid, alg: members.kty === 'OKP' ? 'Ed25519' : 'ES256', use: 'sig' }
  await deps.catalogue.batch([
    // Before the row, so that of two requests at once only the one that changes something is logged.
    await appendEvent(
      deps,
      { kind: status === 'active' ? 'key.add' : 'key.revoke', org, facts: { kid } },
      sql(
        `NOT EXISTS (SELECT 1 FROM publisher_keys WHERE org = ? AND kid = ?${status === 'active' ? '' : ' AND revoked_at IS NOT NULL'})`,
        org,
        kid,
      ),
    ),
    sql(
      `INSERT INTO publisher_keys (org, kid, jwk, created_at, revoked_at) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT (org, kid) DO UPDATE SET revoked_at = coalesce(revoked_at, excluded.revoked_at)`,
      org,
      kid,
      JSON.stringify(jwk),
      at,
      status === 'revoked' ? at : null,
    ),
    eventRow(deps, caller, `key.${status === 'active' ? 'add' : 'revoke'}`, kid),
  ])
  return (await find())!
}
