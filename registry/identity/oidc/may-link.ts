import type { RegistryDeps } from '../../deps.ts'
import { scopesOf, within } from '../roles.ts'
import type { Session } from '../sessions.ts'

/**
 * Whoever links an identity can from then on do all that the user can, so a session that a lesser token opened must not:
 * the token has to administer, or be whole in the one organisation that there is.
 */
export async function mayLink(deps: RegistryDeps, session: Session): Promise<boolean> {
  if (!session.byToken || session.callers.some(({ scopes }) => scopes.includes('admin')))
    return true
  const [caller] = session.callers
  const orgs = await deps.catalogue.query('SELECT org FROM members WHERE user = ?', [session.user])
  return (
    orgs.length === 1 &&
    caller !== undefined &&
    within(caller.scopes, caller.role).length === scopesOf(caller.role).length
  )
}
