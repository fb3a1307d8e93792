import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Scope } from '@graft/sdk/protocol/tokens.ts'
import { nowIso, type RegistryDeps } from '../deps.ts'
import { OAuthError } from '../http/oauth.ts'
import { eventRow } from '../packages/events.ts'
import { first, sql } from '../stores/catalogue.ts'
import { findOrg } from './accounts.ts'
import type { Caller } from './caller.ts'
import { mintToken } from './mint.ts'
import { newSecret, secretHash } from './secrets.ts'
import type { Session } from './sessions.ts'
import { newUserCode } from './user-code.ts'

/*
 * RFC 8628, the device authorization grant: the program shows a code, a person who is signed in enters it in a browser
 * and decides, and the program, which kept asking, is given a token.
 */

/** Seconds that a user code can be entered. */
export const CODE_SECONDS = 600
/** Seconds between polls, and how much a poll that came too early adds (section 3.5). */
const INTERVAL_SECONDS = 5
/** Seconds that the token lives. */
export const LOGIN_SECONDS = 30 * 86_400
/** Codes that wait at once: anybody may ask for one, nobody shall fill the disk. */
const MAX_WAITING = 10_000
/** Milliseconds for which an ended code still answers "expired_token" and not "invalid_grant". */
const REMEMBERED_MS = 3_600_000

export interface DeviceLogin {
  id: string
  user_code: string
  scopes: string
  state: 'pending' | 'approved' | 'denied' | 'taken'
  interval: number
  polled_at: number | null
  user: string | null
  org: string | null
  epoch: number | null
  seconds: number | null
  expires_at: string
}
const COLUMNS =
  'id, user_code, scopes, state, interval, polled_at, user, org, epoch, seconds, expires_at'

/** Sections 3.1 and 3.2. @throws OAuthError */
export async function startDeviceLogin(deps: RegistryDeps, scopes: readonly Scope[]) {
  const now = deps.clock().getTime()
  const forget = new Date(now - REMEMBERED_MS).toISOString()
  await deps.catalogue.batch([sql('DELETE FROM device_logins WHERE expires_at < ?', forget)])
  const waiting = await first<{ n: number }>(
    deps.catalogue,
    'SELECT count(*) AS n FROM device_logins WHERE expires_at > ?',
    nowIso(deps),
  )
  if (waiting!.n >= MAX_WAITING)
    throw new OAuthError('temporarily_unavailable', 'too many codes wait; try again in a minute')
  const deviceCode = newSecret()
  const userCode = newUserCode()
  await deps.catalogue.batch([
    sql(
      `INSERT INTO device_logins (id, user_code, scopes, state, interval, created_at, expires_at)
       VALUES (?, ?, ?, 'pending', ?, ?, ?)`,
      await secretHash(deviceCode),
      userCode,
      JSON.stringify(scopes),
      INTERVAL_SECONDS,
      nowIso(deps),
      new Date(now + CODE_SECONDS * 1000).toISOString(),
    ),
  ])
  return { deviceCode, userCode, expiresIn: CODE_SECONDS, interval: INTERVAL_SECONDS }
}

/** What waits for a decision under this code; null for none. */
export const findDeviceLogin = (deps: RegistryDeps, userCode: string) =>
  first<DeviceLogin>(
    deps.catalogue,
    `SELECT ${COLUMNS} FROM device_logins WHERE user_code = ? AND state = 'pending' AND expires_at > ?`,
    userCode,
    nowIso(deps),
  )

/** What of the asked scopes this person can give in one organisation. */
export const givable = (login: DeviceLogin, caller: Caller): Scope[] =>
  (JSON.parse(login.scopes) as Scope[]).filter((scope) => caller.scopes.includes(scope))

/**
 * The person's word, once. A session that a token opened gives no more than that token has, and for no longer unless it
 * may administer: as when a token makes a token.
 * @throws ERR_FORBIDDEN, ERR_NAME_UNKNOWN when somebody was faster
 */
export async function decideDeviceLogin(
  deps: RegistryDeps,
  session: Session,
  login: DeviceLogin,
  decision: { allow: false } | { allow: true; org: string },
): Promise<void> {
  const caller = session.callers.find(({ tenant }) => !decision.allow || tenant === decision.org)
  const org = caller && (await findOrg(deps, caller.tenant))
  if (!caller || !org)
    throw new GraftError('ERR_FORBIDDEN', `${session.user} cannot act there in this session`)
  const scopes = givable(login, caller)
  if (decision.allow && scopes.length === 0)
    throw new GraftError(
      'ERR_FORBIDDEN',
      `${session.user} has none of what is asked for in ${caller.tenant}: ${login.scopes}`,
    )
  const left = Math.max(1, caller.exp - Math.floor(deps.clock().getTime() / 1000))
  const bounded = session.byToken && !caller.scopes.includes('admin')
  const seconds = bounded ? Math.min(left, LOGIN_SECONDS) : LOGIN_SECONDS
  const [changed] = await deps.catalogue.batch([
    sql(
      `UPDATE device_logins SET state = ?, scopes = ?, user = ?, org = ?, epoch = ?, seconds = ?
        WHERE id = ? AND state = 'pending' AND expires_at > ?`,
      decision.allow ? 'approved' : 'denied',
      JSON.stringify(scopes),
      session.user,
      caller.tenant,
      org.epoch,
      seconds,
      login.id,
      nowIso(deps),
    ),
    eventRow(deps, caller, decision.allow ? 'device.approve' : 'device.deny', login.user_code),
  ])
  if (changed !== 1)
    throw new GraftError('ERR_NAME_UNKNOWN', 'nothing waits under this code any more')
}

/** Sections 3.4 and 3.5. The token is given once. @throws OAuthError */
export async function pollDeviceLogin(deps: RegistryDeps, deviceCode: string) {
  const login = await first<DeviceLogin>(
    deps.catalogue,
    `SELECT ${COLUMNS} FROM device_logins WHERE id = ?`,
    await secretHash(deviceCode),
  )
  if (login === null || login.state === 'taken')
    throw new OAuthError('invalid_grant', 'the device code is not known, or was used')
  if (login.state === 'denied') throw new OAuthError('access_denied', 'the person said no')
  if (login.expires_at <= nowIso(deps))
    throw new OAuthError('expired_token', 'the code was not entered in time; ask for another')
  if (login.state === 'pending') throw await stillPending(deps, login)
  const [claimed] = await deps.catalogue.batch([
    sql(`UPDATE device_logins SET state = 'taken' WHERE id = ? AND state = 'approved'`, login.id),
  ])
  if (claimed !== 1) throw new OAuthError('invalid_grant', 'the device code was used')
  const scopes = JSON.parse(login.scopes) as Scope[]
  const { answer, row } = await mintToken(deps, {
    user: login.user!,
    org: login.org!,
    epoch: login.epoch!,
    name: 'graft login',
    scopes,
    seconds: login.seconds!,
    kind: 'user',
  })
  const actor = { sub: `user:${login.user}`, tenant: login.org! }
  await deps.catalogue.batch([row, eventRow(deps, actor, 'token.create', answer.jti)])
  return { ...answer, scopes, seconds: login.seconds! }
}

async function stillPending(deps: RegistryDeps, login: DeviceLogin): Promise<OAuthError> {
  const now = deps.clock().getTime()
  const early = login.polled_at !== null && now - login.polled_at < login.interval * 1000
  const interval = login.interval + (early ? INTERVAL_SECONDS : 0)
  await deps.catalogue.batch([
    sql(
      'UPDATE device_logins SET polled_at = ?, interval = ? WHERE id = ?',
      now,
      interval,
      login.id,
    ),
  ])
  return early
    ? new OAuthError('slow_down', `ask every ${interval} seconds`)
    : new OAuthError('authorization_pending', 'nobody has decided yet')
}
