import {
  type Checkpoint,
  formatCheckpoint,
  parseCheckpoint,
} from '@graft/sdk/format/tlog/checkpoint.ts'
import { cosignNote, signNote } from '@graft/sdk/format/tlog/note-signatures.ts'
import { formatNote, parseNote } from '@graft/sdk/format/tlog/signed-note.ts'
import { treeRoot } from '@graft/sdk/format/tlog/tree.ts'
import type { RegistryDeps } from '../deps.ts'
import { first, sql } from '../stores/catalogue.ts'
import { drainBacklog } from './backlog.ts'
import { toHex } from './hex.ts'
import { logOrigin } from './origin.ts'
import { newTileRoots, nodesWith } from './stored-tree.ts'

/** Seconds after which the same tree is signed again, so that its age tells a frozen log from a quiet one. */
const FRESH_SECONDS = 60

export interface SignedCheckpoint extends Checkpoint {
  /** Signed note, without cosignatures of witnesses. */
  note: string
}

interface State {
  leaves: number
  backlog: number
  size: number | null
  note: string | null
  signed_at: number | null
}

const readState = async (deps: RegistryDeps): Promise<State> =>
  (await first<State>(
    deps.catalogue,
    `SELECT (SELECT coalesce(max(i) + 1, 0) FROM log_leaves) AS leaves,
            EXISTS (SELECT 1 FROM log_backlog) AS backlog, c.size, c.note, c.signed_at
       FROM (SELECT 1) LEFT JOIN log_checkpoint c ON c.id = 1`,
  ))!

const parsed = (note: string): SignedCheckpoint => ({
  ...parseCheckpoint(parseNote(note).text),
  note,
})

const nowSeconds = (deps: RegistryDeps): number => Math.floor(deps.clock().getTime() / 1000)

/** A checkpoint that covers every leaf committed before the call, signed at most a minute ago. */
export async function currentCheckpoint(deps: RegistryDeps): Promise<SignedCheckpoint> {
  let state = await readState(deps)
  if (state.backlog) {
    await drainBacklog(deps)
    state = await readState(deps)
  }
  const age = nowSeconds(deps) - (state.signed_at ?? 0)
  if (state.note !== null && state.size === state.leaves && age < FRESH_SECONDS)
    return parsed(state.note)
  return sign(deps, state.size ?? 0, state.leaves)
}

/** Signs what is not covered yet. A server that dies before leaves it to the next request: leaves are not lost. */
export async function coverLeaves(deps: RegistryDeps): Promise<void> {
  const { leaves, size, backlog } = await readState(deps)
  if (leaves > (size ?? 0) || backlog) await currentCheckpoint(deps)
}

/**
 * The text is signed twice with the log's key, which signed-note allows where domains are apart: plainly, for every reader of
 * C2SP logs, and as a cosignature, which alone carries the time.
 */
async function sign(deps: RegistryDeps, older: number, size: number): Promise<SignedCheckpoint> {
  const { catalogue, logKey, issuerName } = deps
  const roots = await newTileRoots(catalogue, older, size)
  const root = await treeRoot(size, nodesWith(catalogue, size, roots))
  const origin = logOrigin(issuerName)
  const text = formatCheckpoint({ origin, size, root })
  const at = nowSeconds(deps)
  const note = formatNote({
    text,
    signatures: [await signNote(text, origin, logKey), await cosignNote(text, origin, logKey, at)],
  })
  await catalogue.batch([
    ...roots.map(({ level, n, hash }) =>
      sql(
        'INSERT INTO log_nodes (level, n, hash) VALUES (?, ?, ?) ON CONFLICT DO NOTHING',
        level,
        n,
        toHex(hash),
      ),
    ),
    // Who was overtaken while signing changes nothing: the size that is shown never falls.
    sql(
      `INSERT INTO log_checkpoint (id, size, note, signed_at) VALUES (1, ?, ?, ?)
       ON CONFLICT (id) DO UPDATE
         SET size = excluded.size, note = excluded.note, signed_at = excluded.signed_at
       WHERE excluded.size > size OR (excluded.size = size AND excluded.signed_at > signed_at)`,
      size,
      note,
      at,
    ),
  ])
  return parsed((await readState(deps)).note!)
}
