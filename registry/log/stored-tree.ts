import { foldComplete, type Hash } from '@graft/sdk/format/tlog/hash.ts'
import { encodeTile, nodesOfTiles } from '@graft/sdk/format/tlog/tile-nodes.ts'
import { hashesAt, TILE_WIDTH, type TileCoordinate } from '@graft/sdk/format/tlog/tile-path.ts'
import type { ReadNode } from '@graft/sdk/format/tlog/tree.ts'
import type { Catalogue } from '../stores/catalogue.ts'
import { ofHex } from './hex.ts'

/** Hashes of a level in the order of the tree; level 0 are the leaves. */
async function readHashes(
  catalogue: Catalogue,
  level: number,
  begin: number,
  end: number,
): Promise<Hash[]> {
  const rows = await (level === 0
    ? catalogue.query<{ hash: string }>(
        'SELECT hash FROM log_leaves WHERE i >= ? AND i < ? ORDER BY i',
        [begin, end],
      )
    : catalogue.query<{ hash: string }>(
        'SELECT hash FROM log_nodes WHERE level = ? AND n >= ? AND n < ? ORDER BY n',
        [level, begin, end],
      ))
  if (rows.length === end - begin) return rows.map(({ hash }) => ofHex(hash))
  throw new Error(
    `the log lacks ${end - begin - rows.length} of the hashes ${begin}..${end} of level ${level}`,
  )
}

/** The bytes of a tile of hashes, from the stored rows. */
export async function readStoredTile(
  catalogue: Catalogue,
  { level, index, width }: TileCoordinate,
): Promise<Uint8Array<ArrayBuffer>> {
  const begin = index * TILE_WIDTH
  return encodeTile(await readHashes(catalogue, Number(level), begin, begin + width))
}

/** Nodes of a tree whose whole tiles are all in log_nodes. */
export const storedNodes = (catalogue: Catalogue, size: number): ReadNode =>
  nodesOfTiles(size, (tile) => readStoredTile(catalogue, tile))

export interface TileRoot {
  level: number
  n: number
  hash: Hash
}

/**
 * Roots of the tiles that became whole when a tree grew from `older` leaves to `size`, lowest level first. They go into the
 * batch of the checkpoint that covers them.
 */
export async function newTileRoots(
  catalogue: Catalogue,
  older: number,
  size: number,
): Promise<TileRoot[]> {
  const made: TileRoot[] = []
  for (let level = 1; hashesAt(level, size) > 0; level++)
    for (let n = hashesAt(level, older); n < hashesAt(level, size); n++) {
      const [begin, end] = [n * TILE_WIDTH, (n + 1) * TILE_WIDTH]
      const fresh = made.filter((t) => t.level === level - 1 && t.n >= begin && t.n < end)
      const stored = await readHashes(catalogue, level - 1, begin, end - fresh.length)
      made.push({ level, n, hash: await foldComplete([...stored, ...fresh.map((t) => t.hash)]) })
    }
  return made
}

/** As storedNodes, with roots that are not committed yet. */
export const nodesWith = (
  catalogue: Catalogue,
  size: number,
  fresh: readonly TileRoot[],
): ReadNode =>
  nodesOfTiles(size, async (tile) => {
    const begin = tile.index * TILE_WIDTH
    const end = begin + tile.width
    const own = fresh.filter((t) => t.level === tile.level && t.n >= begin && t.n < end)
    const stored = await readHashes(catalogue, Number(tile.level), begin, end - own.length)
    return encodeTile([...stored, ...own.map((t) => t.hash)])
  })
