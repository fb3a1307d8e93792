import type { Scope } from '@graft/sdk/protocol/tokens.ts'
import { nowIso, type RegistryDeps } from '../deps.ts'
import { eventRow } from '../packages/events.ts'
import { first, sql } from '../stores/catalogue.ts'
import type { Caller } from './caller.ts'
import { type Role, scopesOf, within } from './roles.ts'
import { newSecret, secretHash } from './secrets.ts'

/** Seconds that a browser stays signed in. */
export const SESSION_SECONDS = 8 * 3600
/** Wrong user codes after which a session ends. */
const MAX_MISSES = 10

export interface Session {
  id: string
  user: string
  /** Whether a token opened it, and so bounds it. */
  byToken: boolean
  /** Goes with every form, so that no other site can send one (the session's own, never shown elsewhere). */
  formKey: string
  /** The person in each organisation where they may act. */
  callers: Caller[]
}

interface SessionRow {
  user: string
  token: string | null
  epoch: number
  expires_at: string
}

/** @returns the cookie, which is kept nowhere */
export async function openSession(
  deps: RegistryDeps,
  user: string,
  by: { jti: string; epoch: number; tenant: string } | null,
): Promise<string> {
  const cookie = newSecret()
  const until = new Date(deps.clock().getTime() + SESSION_SECONDS * 1000).toISOString()
  const actor = { sub: `user:${user}`, tenant: by?.tenant ?? '' }
  await deps.catalogue.batch([
    sql('DELETE FROM sessions WHERE expires_at < ?', nowIso(deps)),
    sql(
      'INSERT INTO sessions (id, user, token, epoch, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)',
      await secretHash(cookie),
      user,
      by?.jti ?? null,
      by?.epoch ?? 0,
      nowIso(deps),
      until,
    ),
    eventRow(deps, actor, 'session.open', user),
  ])
  return cookie
}

/** Null for an unknown or ended session, and for one whose token or last role is gone. */
export async function findSession(
  deps: RegistryDeps,
  cookie: string | undefined,
): Promise<Session | null> {
  if (cookie === undefined) return null
  const id = await secretHash(cookie)
  const row = await first<SessionRow>(
    deps.catalogue,
    'SELECT user, token, epoch, expires_at FROM sessions WHERE id = ? AND expires_at > ? AND misses < ?',
    id,
    nowIso(deps),
    MAX_MISSES,
  )
  if (row === null) return null
  const callers = await callersOf(deps, row)
  if (callers.length === 0) return null
  const formKey = await secretHash(`form ${cookie}`)
  return { id, user: row.user, byToken: row.token !== null, formKey, callers }
}

export const closeSession = (deps: RegistryDeps, id: string) =>
  deps.catalogue.batch([sql('DELETE FROM sessions WHERE id = ?', id)])

export const countMiss = (deps: RegistryDeps, id: string) =>
  deps.catalogue.batch([sql('UPDATE sessions SET misses = misses + 1 WHERE id = ?', id)])

interface MemberRow {
  org: string
  epoch: number
  role: Role
  operator: number
  scopes: string | null
  revoked_at: string | null
  expires_at: string | null
}

async function callersOf(deps: RegistryDeps, session: SessionRow): Promise<Caller[]> {
  const rows = await deps.catalogue.query<MemberRow>(
    `SELECT m.org, o.epoch, m.role, u.operator, t.scopes, t.revoked_at, t.expires_at
       FROM members m JOIN orgs o ON o.name = m.org JOIN users u ON u.name = m.user
       LEFT JOIN tokens t ON t.jti = ? AND t.org = m.org
      WHERE m.user = ? ORDER BY m.org`,
    [session.token, session.user],
  )
  const now = nowIso(deps)
  const alive = (row: MemberRow): boolean =>
    session.token === null ||
    (row.scopes !== null &&
      row.revoked_at === null &&
      row.expires_at! > now &&
      session.epoch >= row.epoch)
  return rows.filter(alive).map((row) => ({
    sub: `user:${session.user}`,
    user: session.user,
    tenant: row.org,
    scopes: row.scopes ? within(JSON.parse(row.scopes) as Scope[], row.role) : scopesOf(row.role),
    jti: session.token ?? '',
    exp: Math.floor(Date.parse(row.expires_at ?? session.expires_at) / 1000),
    epoch: row.epoch,
    role: row.role,
    package: null,
    operator: row.operator === 1,
  }))
}
