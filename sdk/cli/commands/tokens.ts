import { decodeUnverified } from '@graft/sdk/format/jws.ts'
import type { TokenRecord } from '@graft/sdk/protocol/registry-api.ts'
import type { AccessClaims } from '@graft/sdk/protocol/tokens.ts'
import { saveConfig } from '../config.ts'
import { type CliContext, registryOf, requireToken } from '../context.ts'
import { table } from '../text.ts'

/** `graft tokens list`: those that have not expired, newest first. */
export async function listTokensCommand(context: CliContext): Promise<void> {
  requireToken(context)
  const registry = registryOf(context)
  const tokens: TokenRecord[] = []
  for (let after: string | undefined; ; ) {
    const page = await registry.tokens(after)
    tokens.push(...page.tokens)
    if (page.next === undefined) break
    after = page.next
  }
  context.output.result({ tokens }, () =>
    table(
      ['id', 'name', 'user', 'scopes', 'last used', 'until'],
      tokens.map((t) => [
        ...[t.jti, t.name, t.user, t.scopes.join(','), t.lastUsedAt?.slice(0, 16) ?? 'never'],
        t.revokedAt === undefined ? t.expiresAt.slice(0, 16) : 'revoked',
      ]),
    ),
  )
}

/** `graft tokens revoke`: at the edges too, within ten seconds. */
export async function revokeTokenCommand(context: CliContext, jti: string): Promise<void> {
  requireToken(context)
  await registryOf(context).revokeToken(jti)
  context.output.result({ jti, revoked: true }, () => `revoked ${jti}\n`)
}

/** `graft tokens rotate`: prints the new token once; the one in use is kept in its place. */
export async function rotateTokenCommand(context: CliContext, jti: string): Promise<void> {
  const token = requireToken(context)
  const answer = await registryOf(context).rotateToken(jti)
  const { home, stored } = context.config
  const isKept = stored.token === token && decodeUnverified<AccessClaims>(token).payload.jti === jti
  if (isKept) await saveConfig(home, { ...stored, token: answer.token })
  context.output.result(isKept ? { jti: answer.jti, expiresAt: answer.expiresAt } : answer, () =>
    isKept ? `the kept token is now ${answer.jti}\n` : `${answer.token}\n`,
  )
}
