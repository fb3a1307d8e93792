import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Scope } from '@graft/sdk/protocol/tokens.ts'
import type { Role } from './roles.ts'

/** Who calls, with what the catalogue says of them now. */
export interface Caller {
  sub: string
  /** The user in whose name the token acts. */
  user: string
  tenant: string
  /** The token's scopes that the user's role still allows. */
  scopes: Scope[]
  jti: string
  /** Seconds. */
  exp: number
  /** The organisation's when the token was made. */
  epoch: number
  /** Theirs in the tenant. */
  role: Role
  /** The one package that the token is good for; null when it is not bound to one. */
  package: string | null
  /** May create users. */
  operator: boolean
}

/** @throws ERR_FORBIDDEN */
export function requireScope(caller: Caller, scope: Scope): void {
  if (caller.scopes.includes(scope)) return
  throw new GraftError(
    'ERR_FORBIDDEN',
    `${caller.sub} in ${caller.tenant} must have the scope "${scope}", it has ${caller.scopes.join(', ') || 'none'}; ask an owner of ${caller.tenant} for a token with it`,
  )
}

/** A token acts in one organisation. @throws ERR_FORBIDDEN */
export function requireTenant(caller: Caller, org: string): void {
  if (caller.tenant === org) return
  throw new GraftError(
    'ERR_FORBIDDEN',
    `the token acts in "${caller.tenant}" and cannot change "${org}"; use a token of "${org}"`,
  )
}
