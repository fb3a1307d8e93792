import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { verifyJwt } from '@graft/sdk/format/jws.ts'
import type { FleetClaims } from '@graft/sdk/protocol/tokens.ts'

/**
 * Only an edge of this fleet may call a runner, and only with a token made for this runner.
 * @throws ERR_UNAUTHENTICATED, ERR_TOKEN_EXPIRED, ERR_FORBIDDEN
 */
export async function authenticate(
  header: string | undefined,
  fleet: { keys: readonly JsonWebKey[]; audience: string; now: Date },
): Promise<void> {
  const token = /^Bearer (\S+)$/.exec(header ?? '')?.[1]
  if (token === undefined)
    throw new GraftError(
      'ERR_UNAUTHENTICATED',
      'a runner is called with "Authorization: Bearer <fleet token>" of the edge; callers talk to the edge',
    )
  const { audience, keys, now } = fleet
  const claims = await verifyJwt<FleetClaims>(token, 'graft-fleet+jwt', keys, { now, audience })
  if (claims.role !== 'edge')
    throw new GraftError('ERR_FORBIDDEN', expected('fleet token: role', '"edge"', claims.role))
}
