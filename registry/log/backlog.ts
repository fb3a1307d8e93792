import type { LogEvent } from '@graft/sdk/format/log-entry.ts'
import type { RegistryDeps } from '../deps.ts'
import { sql } from '../stores/catalogue.ts'
import { appendEvent } from './append-event.ts'

/** Events a batch; each is two statements. */
const BATCH_EVENTS = 40
/** Batches that one request takes upon itself. */
const MAX_BATCHES = 10

/**
 * Logs what an older version of the registry left unlogged. An event leaves the backlog in the batch that appends its leaf,
 * and its leaf is appended only while it is there: two that do this at once, or a crash, log it once.
 */
export async function drainBacklog(deps: RegistryDeps): Promise<void> {
  for (let i = 0; i < MAX_BATCHES; i++) {
    const rows = await deps.catalogue.query<{ id: number; event: string }>(
      'SELECT id, event FROM log_backlog ORDER BY id LIMIT ?',
      [BATCH_EVENTS],
    )
    if (rows.length === 0) return
    const statements = []
    for (const { id, event } of rows)
      statements.push(
        await appendEvent(
          deps,
          JSON.parse(event) as LogEvent,
          sql('EXISTS (SELECT 1 FROM log_backlog WHERE id = ?)', id),
        ),
        sql('DELETE FROM log_backlog WHERE id = ?', id),
      )
    await deps.catalogue.batch(statements)
  }
}
