import { GraftError } from '@graft/sdk/format/errors.ts'
import type {
  Org,
  SetupRequest,
  TokenAnswer,
  TokenRequest,
  UserRequest,
} from '@graft/sdk/protocol/registry-api.ts'
import { nowIso, type RegistryDeps } from '../deps.ts'
import { eventRow } from '../packages/events.ts'
import { first, type SqlStatement, sql } from '../stores/catalogue.ts'
import { type Caller, requireScope } from './caller.ts'
import { findRole, userExists } from './members.ts'
import { MAX_TOKEN_SECONDS, mintToken } from './mint.ts'
import { type Role, scopesOf, within } from './roles.ts'

const insertUser = (name: string, operator: boolean, at: string): SqlStatement =>
  sql('INSERT INTO users (name, operator, created_at) VALUES (?, ?, ?)', name, operator ? 1 : 0, at)
const insertOrg = (name: string, at: string): SqlStatement =>
  sql('INSERT INTO orgs (name, epoch, created_at) VALUES (?, 1, ?)', name, at)
const insertMember = (org: string, user: string, role: Role, at: string): SqlStatement =>
  sql('INSERT INTO members (org, user, role, created_at) VALUES (?, ?, ?, ?)', org, user, role, at)

export const findOrg = (deps: RegistryDeps, name: string) =>
  first<{ name: string; epoch: number; created_at: string }>(
    deps.catalogue,
    'SELECT name, epoch, created_at FROM orgs WHERE name = ?',
    name,
  )

/** A batch broken by a constraint may mean that somebody was faster: `explain` throws what that means, if so. */
async function batchOr(
  deps: RegistryDeps,
  rows: readonly SqlStatement[],
  explain: () => Promise<void>,
): Promise<void> {
  try {
    await deps.catalogue.batch(rows)
  } catch (e) {
    await explain()
    throw e
  }
}

const taken = (what: string, name: string) =>
  new GraftError('ERR_NAME_TAKEN', `${what} "${name}" already exists; choose another name`)

const ownToken = (deps: RegistryDeps, user: string, org: string, role: Role, epoch: number) =>
  mintToken(deps, {
    user,
    org,
    epoch,
    name: 'first token',
    scopes: scopesOf(role),
    seconds: MAX_TOKEN_SECONDS,
    kind: 'user',
  })

/** The first administrator and their organisation. @throws ERR_SETUP_DONE, ERR_UNAUTHENTICATED */
export async function setUp(deps: RegistryDeps, request: SetupRequest): Promise<TokenAnswer> {
  const done = () => new GraftError('ERR_SETUP_DONE', 'this registry already has its administrator')
  const isDone = async () => (await first(deps.catalogue, 'SELECT id FROM setup')) !== null
  if (await isDone()) throw done()
  if (deps.setupCode === null || !(await sameText(request.code, deps.setupCode)))
    throw new GraftError(
      'ERR_UNAUTHENTICATED',
      'the setup code is wrong; the operator finds it where the registry was started',
    )
  const { user, org } = request
  const at = nowIso(deps)
  const { answer, row } = await ownToken(deps, user, org, 'owner', 1)
  const rows = [
    sql('INSERT INTO setup (id, done_at) VALUES (1, ?)', at),
    insertUser(user, true, at),
    insertOrg(org, at),
    insertMember(org, user, 'owner', at),
    row,
    eventRow(deps, { sub: `user:${user}`, tenant: org }, 'setup', org),
  ]
  await batchOr(deps, rows, async () => {
    if (await isDone()) throw done()
  })
  return answer
}

/** Compares digests, so that time tells nothing of how much of the code was right. */
async function sameText(a: string, b: string): Promise<boolean> {
  const hash = async (text: string) =>
    new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text)))
  const [x, y] = [await hash(a), await hash(b)]
  return x.reduce((difference, byte, i) => difference | (byte ^ y[i]!), 0) === 0
}

/**
 * A user, in a new organisation as its owner, or as a reader of one that the caller owns.
 * @throws ERR_FORBIDDEN, ERR_NAME_TAKEN
 */
export async function createUser(
  deps: RegistryDeps,
  caller: Caller,
  { user, org }: UserRequest,
): Promise<TokenAnswer> {
  requireScope(caller, 'admin')
  if (!caller.operator)
    throw new GraftError('ERR_FORBIDDEN', 'only an operator of this registry may create users')
  const assertFree = async () => {
    if (await userExists(deps, user)) throw taken('user', user)
  }
  await assertFree()
  const existing = await findOrg(deps, org)
  if (existing && (await findRole(deps, org, caller.user)) !== 'owner')
    throw taken('organisation', org)
  const role: Role = existing ? 'reader' : 'owner'
  const at = nowIso(deps)
  const { answer, row } = await ownToken(deps, user, org, role, existing?.epoch ?? 1)
  const rows = [
    insertUser(user, false, at),
    ...(existing ? [] : [insertOrg(org, at)]),
    insertMember(org, user, role, at),
    row,
    eventRow(deps, caller, 'user.create', `${user} in ${org}`),
  ]
  await batchOr(deps, rows, async () => {
    await assertFree()
    if (!existing && (await findOrg(deps, org))) throw taken('organisation', org)
  })
  return answer
}

/** For a person, or a program that administers. @throws ERR_FORBIDDEN, ERR_NAME_TAKEN */
export async function createOrg(deps: RegistryDeps, caller: Caller, name: string): Promise<Org> {
  if (!caller.sub.startsWith('user:')) requireScope(caller, 'admin')
  const assertFree = async () => {
    if (await findOrg(deps, name)) throw taken('organisation', name)
  }
  await assertFree()
  const at = nowIso(deps)
  const rows = [
    insertOrg(name, at),
    insertMember(name, caller.user, 'owner', at),
    eventRow(deps, caller, 'org.create', name),
  ]
  await batchOr(deps, rows, assertFree)
  return { name, createdAt: at, epoch: 1 }
}

/**
 * A program's token. It has at most the scopes of the token that asks, and lives no longer unless that one is an
 * administrator's (else a short-lived token could renew itself for ever).
 * @throws ERR_FORBIDDEN
 */
export async function createToken(
  deps: RegistryDeps,
  caller: Caller,
  request: TokenRequest,
): Promise<TokenAnswer> {
  const { org: orgName, name, scopes, expiresIn: seconds } = request
  const forbidden = (why: string) => new GraftError('ERR_FORBIDDEN', why)
  const admin = caller.scopes.includes('admin')
  const org = await findOrg(deps, orgName)
  const role =
    org && (orgName === caller.tenant || admin) && (await findRole(deps, orgName, caller.user))
  if (!org || !role)
    throw forbidden(`the token acts in "${caller.tenant}" and cannot make tokens of "${orgName}"`)
  const allowed = within(caller.scopes, role)
  const excess = scopes.filter((scope) => !allowed.includes(scope))
  if (excess.length > 0)
    throw forbidden(
      `a token cannot give what it does not have: ${excess.join(', ')}; it has ${allowed.join(', ') || 'none'}`,
    )
  const left = Math.floor(caller.exp - deps.clock().getTime() / 1000)
  if (!admin && seconds > left)
    throw forbidden(
      `a token cannot outlive the one that made it: expiresIn must be at most ${left}`,
    )
  const grant = { user: caller.user, org: orgName, epoch: org.epoch, name, scopes, seconds }
  const { answer, row } = await mintToken(deps, { ...grant, kind: 'token' })
  await deps.catalogue.batch([row, eventRow(deps, caller, 'token.create', answer.jti)])
  return answer
}
