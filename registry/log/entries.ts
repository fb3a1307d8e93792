import { encodeEntries } from '@graft/sdk/format/tlog/entry-bundle.ts'
import type { LogFeed } from '@graft/sdk/protocol/log.ts'
import type { RegistryDeps } from '../deps.ts'

/** Entries [begin, end) as text. */
export async function readEntries(
  deps: RegistryDeps,
  begin: number,
  end: number,
): Promise<{ index: number; entry: string }[]> {
  return deps.catalogue.query<{ index: number; entry: string }>(
    'SELECT i AS "index", entry FROM log_leaves WHERE i >= ? AND i < ? ORDER BY i',
    [begin, end],
  )
}

/** C2SP tlog-tiles: an entry bundle. */
export async function readBundle(
  deps: RegistryDeps,
  begin: number,
  end: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const encoder = new TextEncoder()
  return encodeEntries(
    (await readEntries(deps, begin, end)).map(({ entry }) => encoder.encode(entry)),
  )
}

/** What monitors read on and on; `size` is the newest checkpoint's. */
export async function readFeed(
  deps: RegistryDeps,
  size: number,
  from: number,
  limit: number,
): Promise<LogFeed> {
  const end = Math.min(size, from + limit)
  const entries = from < end ? await readEntries(deps, from, end) : []
  return { size, entries, next: from + entries.length }
}
