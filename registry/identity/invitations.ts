import { GraftError } from '@graft/sdk/format/errors.ts'
import type {
  Invitation,
  InvitationAnswer,
  InvitationRequest,
  JoinAnswer,
} from '@graft/sdk/protocol/registry-api.ts'
import { newId, nowIso, type RegistryDeps } from '../deps.ts'
import { eventRow } from '../packages/events.ts'
import { first, sql } from '../stores/catalogue.ts'
import { type Caller, requireScope, requireTenant } from './caller.ts'
import { findRole, requireAppoint, userExists } from './members.ts'
import { MAX_TOKEN_SECONDS, mintToken } from './mint.ts'
import { type Role, scopesOf } from './roles.ts'
import { newSecret, secretHash } from './secrets.ts'

/** Invitations of one organisation that wait at once. */
const MAX_OPEN = 1000

/** A code that makes whoever has it a member, once. @throws ERR_FORBIDDEN, ERR_QUOTA_EXCEEDED */
export async function invite(
  deps: RegistryDeps,
  caller: Caller,
  org: string,
  { role, expiresIn }: InvitationRequest,
): Promise<InvitationAnswer> {
  requireAppoint(caller, org, role)
  if ((await listInvitations(deps, caller, org)).length >= MAX_OPEN)
    throw new GraftError(
      'ERR_QUOTA_EXCEEDED',
      `${org} has ${MAX_OPEN} open invitations; withdraw some, or let them expire`,
    )
  const code = newSecret()
  const id = newId(deps)
  const expiresAt = new Date(deps.clock().getTime() + expiresIn * 1000).toISOString()
  await deps.catalogue.batch([
    sql(
      `INSERT INTO invitations (id, code, org, role, created_by, created_at, expires_at)
       VALUES (?, ?, ?, ?, ?, ?, ?)`,
      id,
      await secretHash(code),
      org,
      role,
      caller.user,
      nowIso(deps),
      expiresAt,
    ),
    eventRow(deps, caller, 'invitation.create', `${id} ${role}`),
  ])
  return { id, code, role, expiresAt }
}

/** Those that wait, newest first. @throws ERR_FORBIDDEN */
export async function listInvitations(
  deps: RegistryDeps,
  caller: Caller,
  org: string,
): Promise<Invitation[]> {
  requireTenant(caller, org)
  requireScope(caller, 'admin')
  return deps.catalogue.query<Invitation>(
    `SELECT id, role, created_by AS createdBy, created_at AS createdAt, expires_at AS expiresAt
       FROM invitations i WHERE org = ? AND expires_at > ?
        AND NOT EXISTS (SELECT 1 FROM invitation_uses u WHERE u.invitation = i.id)
      ORDER BY created_at DESC, id LIMIT ?`,
    [org, nowIso(deps), MAX_OPEN],
  )
}

/** @throws ERR_FORBIDDEN, ERR_NAME_UNKNOWN when it does not wait there */
export async function withdrawInvitation(
  deps: RegistryDeps,
  caller: Caller,
  org: string,
  id: string,
): Promise<void> {
  const found = (await listInvitations(deps, caller, org)).find((row) => row.id === id)
  const unknown = () => new GraftError('ERR_NAME_UNKNOWN', `no invitation "${id}" waits in ${org}`)
  if (found === undefined) throw unknown()
  requireAppoint(caller, org, found.role)
  const [gone] = await deps.catalogue.batch([
    sql(
      `DELETE FROM invitations WHERE id = ? AND org = ?
         AND NOT EXISTS (SELECT 1 FROM invitation_uses u WHERE u.invitation = invitations.id)`,
      id,
      org,
    ),
    eventRow(deps, caller, 'invitation.withdraw', id),
  ])
  if (gone !== 1) throw unknown()
}

interface InvitationRow {
  id: string
  org: string
  role: Role
  epoch: number
  /** Of who invited, now: what they may no longer give, their code no longer gives. */
  by: Role | null
  created_by: string
}

/**
 * A person joins by a code: one who is signed in, or a new one under a name that is free (sign-up).
 * @throws ERR_NAME_UNKNOWN for a code that is wrong, used, withdrawn or too old; ERR_NAME_TAKEN
 */
export async function join(
  deps: RegistryDeps,
  who: Caller | { newUser: string },
  code: string,
): Promise<JoinAnswer> {
  const row = await first<InvitationRow>(
    deps.catalogue,
    `SELECT i.id, i.org, i.role, i.created_by, o.epoch, m.role AS "by"
       FROM invitations i JOIN orgs o ON o.name = i.org
       LEFT JOIN members m ON m.org = i.org AND m.user = i.created_by
      WHERE i.code = ? AND i.expires_at > ?
        AND NOT EXISTS (SELECT 1 FROM invitation_uses u WHERE u.invitation = i.id)`,
    await secretHash(code),
    nowIso(deps),
  )
  const refused = () =>
    new GraftError('ERR_NAME_UNKNOWN', 'this invitation is not valid here; ask for another')
  if (row === null || row.by === null) throw refused()
  requireAppoint(
    { ...INVITER, user: row.created_by, role: row.by, tenant: row.org },
    row.org,
    row.role,
  )
  if (!('newUser' in who) && !who.sub.startsWith('user:'))
    throw new GraftError('ERR_FORBIDDEN', 'a program cannot join; use a token of your own')
  const isNew = 'newUser' in who
  const user = isNew ? who.newUser : who.user
  const assertFree = async () => {
    if (isNew && (await userExists(deps, user)))
      throw new GraftError('ERR_NAME_TAKEN', `user "${user}" already exists; choose another name`)
    if (!isNew && (await findRole(deps, row.org, user)) !== null)
      throw new GraftError('ERR_NAME_TAKEN', `${user} is a member of ${row.org} already`)
  }
  await assertFree()
  const { org, role } = row
  const at = nowIso(deps)
  const { answer, row: token } = await mintToken(deps, {
    ...{ user, org, epoch: row.epoch, name: `joined ${org}`, scopes: scopesOf(role) },
    ...{ seconds: MAX_TOKEN_SECONDS, kind: 'user' },
  })
  const actor = { sub: `user:${user}`, tenant: org }
  try {
    await deps.catalogue.batch([
      ...(isNew
        ? [sql('INSERT INTO users (name, operator, created_at) VALUES (?, 0, ?)', user, at)]
        : []),
      sql('INSERT INTO invitation_uses (invitation, user, at) VALUES (?, ?, ?)', row.id, user, at),
      sql(
        'INSERT INTO members (org, user, role, created_at) VALUES (?, ?, ?, ?)',
        org,
        user,
        role,
        at,
      ),
      token,
      eventRow(deps, actor, 'invitation.accept', `${row.id} ${user} ${role}`),
    ])
  } catch (e) {
    await assertFree()
    const open = await first(
      deps.catalogue,
      `SELECT id FROM invitations i WHERE id = ?
          AND NOT EXISTS (SELECT 1 FROM invitation_uses u WHERE u.invitation = i.id)`,
      row.id,
    )
    throw open === null ? refused() : e
  }
  return { user, org, role, ...answer }
}

/** Who invited, as far as giving a role goes. */
const INVITER = {
  sub: '',
  scopes: ['admin'] as Caller['scopes'],
  ...{ jti: '', exp: 0, epoch: 0, package: null, operator: false },
}
