import type { Scope } from '@graft/sdk/protocol/tokens.ts'

export const ROLES = ['owner', 'admin', 'publisher', 'reader'] as const
export type Role = (typeof ROLES)[number]

/** All that a role gives in its organisation; who may do what is asked here and nowhere else. */
interface Powers {
  /** The most that a token of such a member can have; its own scopes narrow it further. */
  scopes: readonly Scope[]
  /** Roles that such a member may give, change and take away, with a token that has the scope admin. */
  appoints: readonly Role[]
  /** Removes bytes for good. */
  tombstones: boolean
}

const POWERS: Record<Role, Powers> = {
  owner: {
    scopes: ['infer', 'read', 'publish', 'admin', 'ledger'],
    appoints: ROLES,
    tombstones: true,
  },
  // Runs the organisation day by day: no money, nothing that cannot be undone, nobody as powerful.
  admin: {
    scopes: ['infer', 'read', 'publish', 'admin'],
    appoints: ['publisher', 'reader'],
    tombstones: false,
  },
  publisher: { scopes: ['infer', 'read', 'publish'], appoints: [], tombstones: false },
  reader: { scopes: ['infer', 'read'], appoints: [], tombstones: false },
}

export const scopesOf = (role: Role): Scope[] => [...POWERS[role].scopes]
export const within = (scopes: readonly Scope[], role: Role): Scope[] =>
  scopes.filter((scope) => POWERS[role].scopes.includes(scope))
export const mayAppoint = (by: Role, role: Role): boolean => POWERS[by].appoints.includes(role)
export const mayTombstone = (role: Role): boolean => POWERS[role].tombstones
