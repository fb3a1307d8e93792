import { createRegistryClient } from '@graft/sdk/client/registry-client.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { SCOPES, type Scope } from '@graft/sdk/protocol/tokens.ts'
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

/** `graft login --token-stdin`: a token is read from stdin, tried, and kept with the servers in use. */
export async function loginCommand(
  context: CliContext,
  flags: { tokenStdin?: boolean },
): Promise<void> {
  if (!flags.tokenStdin)
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      'a token is read from stdin only, so that it stays out of shell history: graft login --token-stdin < token.txt',
    )
  const token = (await context.readStdin()).trim()
  if (token === '')
    throw new GraftError('ERR_REQUEST_INVALID', expected('stdin', 'a token', 'nothing'))
  const { registry, edge, home } = context.config
  const me = await createRegistryClient({ url: registry, token }).whoami()
  await saveConfig(home, { ...context.config.stored, registry, edge, token })
  context.output.result(
    { sub: me.sub, tenant: me.tenant, registry, edge },
    () => `logged in to ${registry} as ${me.sub} of ${me.tenant}\n`,
  )
}

export interface TokenFlags {
  org?: string
  name: string
  scopes: string
  expiresIn: number
}

/** `graft tokens create`: prints the token once; it is kept nowhere. */
export async function createTokenCommand(context: CliContext, flags: TokenFlags): Promise<void> {
  requireToken(context)
  const registry = registryOf(context)
  const scopes = flags.scopes.split(',').map((scope): Scope => {
    if ((SCOPES as readonly string[]).includes(scope)) return scope as Scope
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      expected('--scopes', `some of ${SCOPES.join(',')}`, scope),
    )
  })
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
