import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { type CliContext, ledgerOf, registryOf, requireToken } from '../context.ts'
import { money, parseMoney } from '../text.ts'

/** `graft users create <user> --org <org>`: prints the new user's first token, once. */
export async function createUserCommand(
  context: CliContext,
  user: string,
  flags: { org: string },
): Promise<void> {
  requireToken(context)
  const answer = await registryOf(context).createUser({ user, org: flags.org })
  context.output.result(answer, () => `${answer.token}\n`)
  context.output.log(
    `user ${user} of ${flags.org}; the token above is theirs until ${answer.expiresAt}`,
  )
}

/** `graft top-up <org> <amount>`: adds money to an organisation's balance. */
export async function topUpCommand(
  context: CliContext,
  org: string,
  amount: string,
  flags: { id?: string; memo?: string },
): Promise<void> {
  const nanos = parseMoney(amount)
  if (nanos === null)
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      expected('<amount>', 'a positive decimal with at most nine places, like 2.50', amount),
    )
  const balance = await ledgerOf(context).topUp({
    tenant: org,
    amount: nanos,
    id: flags.id ?? crypto.randomUUID(),
    memo: flags.memo ?? 'top-up',
  })
  context.output.result(
    balance,
    () => `${org} has ${money(balance.available, balance.currency)} available\n`,
  )
}
