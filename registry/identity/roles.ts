import type { Scope } from '@graft/sdk/protocol/tokens.ts'

export const ROLES = ['owner', 'publisher', 'reader'] as const
export type Role = (typeof ROLES)[number]

/** The most that a member may do in their organisation; a token's scopes narrow it further. */
export const ROLE_SCOPES: Record<Role, readonly Scope[]> = {
  owner: ['infer', 'read', 'publish', 'admin', 'ledger'],
  publisher: ['infer', 'read', 'publish'],
  reader: ['infer', 'read'],
}

export const within = (scopes: readonly Scope[], role: Role): Scope[] =>
  scopes.filter((scope) => ROLE_SCOPES[role].includes(scope))
