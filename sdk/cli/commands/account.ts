import { deviceLogin } from '@graft/sdk/client/device-login.ts'
import { createRegistryClient } from '@graft/sdk/client/registry-client.ts'
import { expected, GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import { decodeUnverified } from '@graft/sdk/format/jws.ts'
import { type AccessClaims, SCOPES, type Scope } from '@graft/sdk/protocol/tokens.ts'
import { saveConfig } from '../config.ts'
import { type CliContext, ledgerOf, registryOf, requireToken } from '../context.ts'
import { facts, money } from '../text.ts'

/** `graft whoami` */
export async function whoamiCommand(context: CliContext): Promise<void> {
  requireToken(context)
  const me = await registryOf(context).whoami()
  context.output.result(me, () =>
    facts([
      ['who', me.sub],
      ['organisation', me.tenant],
      ['may', me.scopes.join(', ')],
      ['member of', me.orgs.map(({ name, role }) => `${name} (${role})`).join(', ')],
      ['registry', context.config.registry],
    ]),
  )
}

export interface LoginFlags {
  tokenStdin?: boolean
  scopes?: string
}

/**
 * `graft login`: by a browser (RFC 8628), or with a token read from stdin. The token is tried, and kept with the servers
 * in use, for their owner's eyes alone.
 */
export async function loginCommand(context: CliContext, flags: LoginFlags): Promise<void> {
  const { registry, edge, home } = context.config
  const token = flags.tokenStdin
    ? await tokenOfStdin(context)
    : await tokenOfBrowser(context, flags)
  const me = await createRegistryClient({ url: registry, token }).whoami()
  const tokenFrom = flags.tokenStdin ? 'stdin' : 'browser'
  await saveConfig(home, { ...context.config.stored, registry, edge, token, tokenFrom })
  context.output.result(
    { sub: me.sub, tenant: me.tenant, scopes: me.scopes, registry, edge },
    () => `logged in to ${registry} as ${me.sub} of ${me.tenant}, for ${me.scopes.join(', ')}\n`,
  )
}

async function tokenOfStdin(context: CliContext): Promise<string> {
  const token = (await context.readStdin()).trim()
  if (token !== '') return token
  throw new GraftError('ERR_REQUEST_INVALID', expected('stdin', 'a token', 'nothing'))
}

const tokenOfBrowser = (context: CliContext, flags: LoginFlags): Promise<string> =>
  deviceLogin({
    url: context.config.registry,
    scopes: flags.scopes === undefined ? undefined : parseScopes(flags.scopes),
    signal: context.signal,
    show: ({ userCode, page, pageWithCode, expiresIn }) =>
      context.output.log(
        `Open ${pageWithCode}\nor, on any device, ${page} and enter the code ${userCode}\nwithin ${Math.round(expiresIn / 60)} minutes. Waiting...`,
      ),
  })

/**
 * `graft logout`: forgets the kept token. One that `graft login` got is revoked first, since only this machine has it; if
 * the registry cannot be asked, it stays.
 */
export async function logoutCommand(context: CliContext): Promise<void> {
  const { token, tokenFrom, ...rest } = context.config.stored
  const registry = rest.registry ?? context.config.registry
  if (token === undefined)
    throw new GraftError('ERR_UNAUTHENTICATED', 'nobody is logged in; see: graft login')
  const revoked = tokenFrom === 'browser' && (await revokeOwn(registry, token))
  await saveConfig(context.config.home, rest)
  context.output.result({ registry, revoked }, () =>
    revoked
      ? `logged out of ${registry}; the token is revoked\n`
      : `logged out of ${registry}; the token is forgotten here, and lives until it expires or is revoked\n`,
  )
}

/** False when it is dead already. */
async function revokeOwn(registry: string, token: string): Promise<boolean> {
  const { jti } = decodeUnverified<AccessClaims>(token).payload
  try {
    await createRegistryClient({ url: registry, token }).revokeToken(jti)
    return true
  } catch (e) {
    if (isGraftError(e) && e.status === 401) return false
    throw e
  }
}

export interface TokenFlags {
  org?: string
  name: string
  scopes: string
  expiresIn: number
}

const parseScopes = (text: string): Scope[] =>
  text.split(',').map((scope): Scope => {
    if ((SCOPES as readonly string[]).includes(scope)) return scope as Scope
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      expected('--scopes', `some of ${SCOPES.join(',')}`, scope),
    )
  })

/** `graft tokens create`: prints the token once; it is kept nowhere. */
export async function createTokenCommand(context: CliContext, flags: TokenFlags): Promise<void> {
  requireToken(context)
  const registry = registryOf(context)
  const scopes = parseScopes(flags.scopes)
  const org = flags.org ?? (await registry.whoami()).tenant
  const { name, expiresIn } = flags
  const answer = await registry.createToken({ org, name, scopes, expiresIn })
  context.output.result(answer, () => `${answer.token}\n`)
  context.output.log(
    `token ${answer.jti} of ${org} for ${scopes.join(', ')}, until ${answer.expiresAt}`,
  )
}

/** `graft balance` */
export async function balanceCommand(context: CliContext): Promise<void> {
  const balance = await ledgerOf(context).balance()
  const { tenant, currency, available, held, spent } = balance
  context.output.result(balance, () =>
    facts([
      ['organisation', tenant],
      ['available', money(available, currency)],
      ['held', money(held, currency)],
      ['spent', money(spent, currency)],
    ]),
  )
}
