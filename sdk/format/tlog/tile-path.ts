import { expected, GraftError } from '../errors.ts'

/** Hashes of a whole tile; a tile is a subtree of height 8. */
export const TILE_WIDTH = 256
/** Levels of the tree that a tile spans. */
export const TILE_HEIGHT = 8
/** 256^6 > 2^53: no tree that a number can count reaches a seventh level. */
const MAX_LEVEL = 6

/** C2SP tlog-tiles: tile `index` of `level`, or the bundle of the entries below tile `index` of level 0. */
export interface TileCoordinate {
  level: number | 'entries'
  index: number
  /** Hashes in it: 256, or fewer for a partial tile. */
  width: number
}

/** "x001/x234/067" for 1234067. */
function formatIndex(index: number): string {
  const digits = String(index)
  const padded = digits.padStart(Math.ceil(digits.length / 3) * 3, '0')
  const groups = padded.match(/\d{3}/g)!
  return groups.map((group, i) => (i < groups.length - 1 ? `x${group}` : group)).join('/')
}

/** "tile/0/x001/234.p/5", without a leading slash. */
export const formatTilePath = ({ level, index, width }: TileCoordinate): string =>
  `tile/${level}/${formatIndex(index)}${width === TILE_WIDTH ? '' : `.p/${width}`}`

/** Each coordinate has one spelling, so that each tile has one address. @throws ERR_REQUEST_INVALID */
export function parseTilePath(path: string): TileCoordinate {
  const match = /^tile\/(entries|\d)\/((?:x\d{3}\/){0,5}\d{3})(?:\.p\/(\d{1,3}))?$/.exec(path)
  if (match) {
    const [, level, index, width] = match
    const coordinate = {
      level: level === 'entries' ? ('entries' as const) : Number(level),
      index: Number(index!.replace(/[x/]/g, '')),
      width: width === undefined ? TILE_WIDTH : Number(width),
    }
    const known = level === 'entries' || Number(level) <= MAX_LEVEL
    const exists = Number.isSafeInteger(coordinate.index) && coordinate.width > 0
    if (known && exists && formatTilePath(coordinate) === path) return coordinate
  }
  throw new GraftError(
    'ERR_REQUEST_INVALID',
    expected(
      'tile path',
      '"tile/<level>/<index>", "tile/entries/<index>" or a partial of them',
      path,
    ),
  )
}

/**
 * How many hashes of a level a tree has: complete subtrees of 256^level leaves. The entries count as level 0.
 */
export const hashesAt = (level: TileCoordinate['level'], size: number): number =>
  Math.floor(size / TILE_WIDTH ** (level === 'entries' ? 0 : level))

/** The tile as a tree of `size` leaves has it; width 0 when the tree ends before it. */
export const tileOf = (
  level: TileCoordinate['level'],
  index: number,
  size: number,
): TileCoordinate => ({
  level,
  index,
  width: Math.max(0, Math.min(TILE_WIDTH, hashesAt(level, size) - index * TILE_WIDTH)),
})
