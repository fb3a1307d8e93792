import { concatBytes } from '../bytes.ts'
import { expected, GraftError } from '../errors.ts'
import { foldComplete, HASH_BYTES, type Hash } from './hash.ts'
import {
  formatTilePath,
  TILE_HEIGHT,
  TILE_WIDTH,
  type TileCoordinate,
  tileOf,
} from './tile-path.ts'
import type { ReadNode } from './tree.ts'

/** The bytes of a tile: `width` hashes of 32 bytes. */
export type ReadTile = (tile: TileCoordinate) => Promise<Uint8Array>

/** Concatenated hashes. */
export const encodeTile = (hashes: readonly Hash[]): Uint8Array<ArrayBuffer> => concatBytes(hashes)

/** @throws ERR_DIGEST_MISMATCH for bytes that are not as many hashes as asked for */
export function decodeTile(tile: TileCoordinate, bytes: Uint8Array): Hash[] {
  if (bytes.length !== tile.width * HASH_BYTES)
    throw new GraftError(
      'ERR_DIGEST_MISMATCH',
      expected(formatTilePath(tile), `${tile.width * HASH_BYTES} bytes`, `${bytes.length}`),
    )
  return Array.from({ length: tile.width }, (_, i) =>
    Uint8Array.from(bytes.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES)),
  )
}

/**
 * Nodes of a tree of `size` leaves, from its tiles; each tile is read once. What tiles say is not believed: a proof made
 * from them still has to lead to a signed root.
 */
export function nodesOfTiles(size: number, readTile: ReadTile): ReadNode {
  const tiles = new Map<string, Promise<Hash[]>>()
  const hashesOf = (tile: TileCoordinate): Promise<Hash[]> => {
    const path = formatTilePath(tile)
    const known = tiles.get(path)
    if (known) return known
    const reading = readTile(tile).then((bytes) => decodeTile(tile, bytes))
    tiles.set(path, reading)
    return reading
  }
  return async (level, index) => {
    const tileLevel = Math.floor(level / TILE_HEIGHT)
    const count = 2 ** (level % TILE_HEIGHT)
    const begin = index * count
    const tile = tileOf(tileLevel, Math.floor(begin / TILE_WIDTH), size)
    const at = begin % TILE_WIDTH
    return foldComplete((await hashesOf(tile)).slice(at, at + count))
  }
}
