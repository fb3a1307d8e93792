import type { RegistryDeps } from '../deps.ts'
import { sql } from '../stores/catalogue.ts'
import { sortKey } from './version-order.ts'

/** Statements of one batch; D1 runs them one by one. */
const BATCH = 500

/** Versions published before migration 0003 have no key yet: given here, once, when their package is first asked for. */
export async function fillOrder(deps: RegistryDeps, name: string): Promise<void> {
  for (;;) {
    const rows = await deps.catalogue.query<{ digest: string; version: string }>(
      `SELECT digest, version FROM versions WHERE package = ? AND sort IS NULL LIMIT ${BATCH}`,
      [name],
    )
    if (rows.length === 0) return
    await deps.catalogue.batch(
      rows.map(({ digest, version }) =>
        sql('UPDATE versions SET sort = ? WHERE digest = ?', sortKey(version), digest),
      ),
    )
  }
}
