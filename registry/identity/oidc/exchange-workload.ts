import type { TokenAnswer } from '@graft/sdk/protocol/registry-api.ts'
import { nowIso, type RegistryDeps } from '../../deps.ts'
import { OAuthError } from '../../http/oauth.ts'
import { eventRow } from '../../packages/events.ts'
import { first, sql } from '../../stores/catalogue.ts'
import { mintToken } from '../mint.ts'
import { type Role, within } from '../roles.ts'
import type { IssuerKeys } from './issuer-keys.ts'
import { matchesClaims } from './trusted-publishers.ts'
import { verifyIdentityToken } from './verify-identity-token.ts'

/** Seconds: one publish, with time for a slow upload. */
export const PUBLISH_TOKEN_SECONDS = 15 * 60
/** Milliseconds for which a used token is remembered beyond its end: the clocks' difference, twice. */
const REMEMBERED_MS = 120_000

interface Rule {
  id: string
  org: string
  claims: string
  created_by: string
  epoch: number
  role: Role
}

/**
 * A CI's identity token for one that publishes this package and nothing else (RFC 8693). Each works once.
 * @throws OAuthError invalid_grant, invalid_target; ERR_UNAUTHENTICATED saying what is wrong with the token
 */
export async function exchangeWorkload(
  deps: RegistryDeps,
  keys: IssuerKeys,
  subjectToken: string,
  name: string,
): Promise<TokenAnswer> {
  const claims = await verifyIdentityToken(keys, subjectToken, {
    issuers: deps.trustedIssuers ?? [],
    audience: deps.issuerName,
    now: deps.clock(),
  })
  const { iss, sub, jti, exp } = claims
  if (typeof jti !== 'string' || jti === '' || jti.length > 256)
    throw new OAuthError('invalid_grant', 'the identity token must have a jti, so it is used once')
  const rules = await deps.catalogue.query<Rule>(
    `SELECT t.id, t.org, t.claims, t.created_by, o.epoch, m.role
       FROM trusted_publishers t JOIN orgs o ON o.name = t.org
       JOIN members m ON m.org = t.org AND m.user = t.created_by
      WHERE t.package = ? AND t.issuer = ? ORDER BY t.created_at, t.id`,
    [name, iss],
  )
  const rule = rules.find(
    (row) =>
      within(['publish'], row.role).length > 0 &&
      matchesClaims(JSON.parse(row.claims) as Record<string, string>, claims),
  )
  // The same for a package without rules: nobody learns which there are.
  if (rule === undefined)
    throw new OAuthError('invalid_target', `no rule of ${name} trusts this workload (${sub})`)
  const { answer, row } = await mintToken(deps, {
    ...{ user: rule.created_by, org: rule.org, epoch: rule.epoch, kind: 'token' },
    ...{ name: `trusted publisher ${sub}`.slice(0, 100), scopes: ['publish'] },
    ...{ seconds: PUBLISH_TOKEN_SECONDS, package: name },
  })
  const seen = 'SELECT jti FROM used_identity_tokens WHERE issuer = ? AND jti = ?'
  try {
    await deps.catalogue.batch([
      sql('DELETE FROM used_identity_tokens WHERE expires_at < ?', nowIso(deps)),
      // Its primary key refuses the second of two at once, and with it the whole batch.
      sql(
        'INSERT INTO used_identity_tokens (issuer, jti, expires_at) VALUES (?, ?, ?)',
        iss,
        jti,
        new Date(exp * 1000 + REMEMBERED_MS).toISOString(),
      ),
      row,
      eventRow(
        deps,
        { sub: `token:${answer.jti}`, tenant: rule.org },
        'publisher.exchange',
        `${name} ${rule.id} ${sub}`.slice(0, 500),
      ),
    ])
  } catch (e) {
    if ((await first(deps.catalogue, seen, iss, jti)) === null) throw e
    throw new OAuthError('invalid_grant', 'this identity token was used before')
  }
  return answer
}
