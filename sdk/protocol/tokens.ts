import type { Digest } from '../format/digest.ts'

/** What a token lets its bearer do. `infer` is all an API key for calls needs. */
export const SCOPES = ['infer', 'read', 'publish', 'admin', 'ledger'] as const
export type Scope = (typeof SCOPES)[number]

/** Claims of an access token (JWS typ `graft-access+jwt`), signed by the registry, verified offline by the edge. */
export interface AccessClaims {
  iss: string
  /** User or program: `user:ada`, `token:<jti>`. */
  sub: string
  /** The organisation that owns and pays: `acme`. */
  tenant: string
  scopes: Scope[]
  jti: string
  /** Rises when the tenant revokes; a token below the tenant's epoch is refused. */
  epoch: number
  iat: number
  exp: number
}

/** Claims of a pull capability (typ `graft-capability+jwt`): the bytes of one manifest, for one tenant. */
export interface CapabilityClaims {
  iss: string
  tenant: string
  manifest: Digest
  exp: number
}

/** Claims that one Graft server shows another (typ `graft-fleet+jwt`): runner to edge, edge to runner. */
export interface FleetClaims {
  iss: string
  aud: string
  role: 'runner' | 'edge'
  iat: number
  exp: number
}
