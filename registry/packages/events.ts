import { nowIso, type RegistryDeps } from '../deps.ts'
import { type SqlStatement, sql } from '../stores/catalogue.ts'

/** A line of the audit trail; it goes into the batch of the change it tells of. */
export const eventRow = (
  deps: RegistryDeps,
  actor: { sub: string; tenant: string },
  kind: string,
  subject: string,
): SqlStatement =>
  sql(
    'INSERT INTO events (at, actor, org, kind, subject) VALUES (?, ?, ?, ?, ?)',
    nowIso(deps),
    actor.sub,
    actor.tenant,
    kind,
    subject,
  )
