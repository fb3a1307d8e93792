import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { decodeBase64, encodeBase64 } from '@graft/sdk/format/base64url.ts'
import { type Hash, innerHash, leafHash, sameHash } from '@graft/sdk/format/tlog/hash.ts'
import { encodeTile, nodesOfTiles } from '@graft/sdk/format/tlog/tile-nodes.ts'
import {
  formatTilePath,
  hashesAt,
  parseTilePath,
  TILE_WIDTH,
  type TileCoordinate,
  tileOf,
} from '@graft/sdk/format/tlog/tile-path.ts'
import {
  proveConsistency,
  proveInclusion,
  type ReadNode,
  treeRoot,
} from '@graft/sdk/format/tlog/tree.ts'
import { verifyConsistency, verifyInclusion } from '@graft/sdk/format/tlog/verify-proofs.ts'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { naiveLeaf, naivePath, naiveProof, naiveRoot } from './naive.ts'

interface Fixture {
  roots: { size: number; root: string }[]
  inclusions: { size: number; index: number; proof: string[] }[]
  consistencies: { size: number; older: number; proof: string[] }[]
  tiles: { path: string; level: number; index: number; width: number; leafHashOfBytes: string }[]
}
const fixture = JSON.parse(
  readFileSync(join(import.meta.dirname, 'fixtures/fixtures.json'), 'utf8'),
) as Fixture

const encode = (text: string) => new TextEncoder().encode(text)
const base64 = (hashes: readonly Uint8Array[]) => hashes.map(encodeBase64)
const refusal = { code: 'ERR_DIGEST_MISMATCH' }

/** Every tile of a tree, and the tree as read from them at any smaller size. */
async function tilesOf(leaves: Hash[]) {
  const levels = [leaves]
  for (let below = leaves; below.length >= TILE_WIDTH; ) {
    const above: Hash[] = []
    for (let n = 0; n + TILE_WIDTH <= below.length; n += TILE_WIDTH) {
      let row = below.slice(n, n + TILE_WIDTH)
      while (row.length > 1)
        row = await Promise.all(
          Array.from({ length: row.length / 2 }, (_, i) => innerHash(row[2 * i]!, row[2 * i + 1]!)),
        )
      above.push(row[0]!)
    }
    levels.push((below = above))
  }
  const readTile = async ({ level, index, width }: TileCoordinate) =>
    encodeTile(levels[level as number]!.slice(index * TILE_WIDTH, index * TILE_WIDTH + width))
  return { readTile, nodes: (size: number): ReadNode => nodesOfTiles(size, readTile) }
}

describe('trees and proofs against golang.org/x/mod/sumdb/tlog', () => {
  let tiles: Awaited<ReturnType<typeof tilesOf>>
  const roots = new Map(fixture.roots.map(({ size, root }) => [size, decodeBase64(root)]))
  let leaves: Hash[]
  beforeAll(async () => {
    leaves = Array.from({ length: 70_000 }, (_, i) => naiveLeaf(encode(`entry ${i}`)))
    tiles = await tilesOf(leaves)
  })

  it('computes its roots from tiles, up to 70,000 leaves', async () => {
    expect(fixture.roots.length).toBe(17)
    for (const { size, root } of fixture.roots)
      expect(encodeBase64(await treeRoot(size, tiles.nodes(size))), `size ${size}`).toBe(root)
  })

  it('makes its inclusion proofs and accepts them', async () => {
    for (const { size, index, proof } of fixture.inclusions) {
      const made = await proveInclusion(index, size, tiles.nodes(size))
      expect(base64(made), `${index} of ${size}`).toEqual(proof)
      await verifyInclusion(leaves[index]!, index, { size, root: roots.get(size)! }, made)
    }
  })

  it('makes its consistency proofs and accepts them', async () => {
    for (const { size, older, proof } of fixture.consistencies) {
      const nodes = tiles.nodes(size)
      const made = await proveConsistency(older, size, nodes)
      // Go proves a tree consistent with itself by its root; RFC 9162 needs nothing.
      expect(base64(made), `${older} in ${size}`).toEqual(older === size ? [] : proof)
      const past = { size: older, root: await treeRoot(older, nodes) }
      await verifyConsistency(past, { size, root: roots.get(size)! }, made)
    }
  })

  it('has its tiles, each at its path', async () => {
    expect(fixture.tiles.length).toBeGreaterThan(4)
    for (const { path, level, index, width, leafHashOfBytes } of fixture.tiles) {
      expect(formatTilePath({ level, index, width })).toBe(path)
      expect(parseTilePath(path)).toEqual({ level, index, width })
      expect(tileOf(level, index, 70_000)).toEqual({ level, index, width })
      const bytes = await tiles.readTile({ level, index, width })
      expect(encodeBase64(await leafHash(bytes))).toBe(leafHashOfBytes)
    }
  })
})

describe('trees and proofs against RFC 6962 word by word', () => {
  const entries = fc.array(fc.uint8Array({ maxLength: 40 }), { minLength: 1, maxLength: 600 })

  it('has the same root, paths and proofs at any size', async () => {
    await fc.assert(
      fc.asyncProperty(entries, fc.nat(), fc.nat(), async (all, a, b) => {
        const size = all.length
        const nodes = (await tilesOf(await Promise.all(all.map(leafHash)))).nodes(size)
        const root = naiveRoot(all)
        expect(sameHash(await treeRoot(size, nodes), root)).toBe(true)
        const index = a % size
        const path = await proveInclusion(index, size, nodes)
        expect(path).toEqual(naivePath(index, all))
        await verifyInclusion(naiveLeaf(all[index]!), index, { size, root }, path)
        const older = (b % size) + 1
        const proof = await proveConsistency(older, size, nodes)
        expect(proof).toEqual(older === size ? [] : naiveProof(older, all))
        const past = { size: older, root: naiveRoot(all.slice(0, older)) }
        await verifyConsistency(past, { size, root }, proof)
      }),
      { numRuns: 60 },
    )
  })

  it('refuses a proof with any bit turned, any hash dropped or added, or said of another leaf, size or root', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 2, max: 300 }), fc.nat(), fc.nat(), async (size, a, b) => {
        const all = Array.from({ length: size }, (_, i) => encode(`leaf ${i}`))
        const root = naiveRoot(all)
        const tree = { size, root }
        const index = a % size
        const leaf = naiveLeaf(all[index]!)
        const path = naivePath(index, all)
        const turned = path.map((hash) => Uint8Array.from(hash))
        turned[b % path.length]![b % 32]! ^= 1 << (b % 8)
        const older = 1 + (a % (size - 1))
        const past = { size: older, root: naiveRoot(all.slice(0, older)) }
        const proof = naiveProof(older, all)
        const bent = proof.map((hash) => Uint8Array.from(hash))
        bent[b % proof.length]![b % 32]! ^= 1 << (b % 8)
        const other = naiveRoot(all.slice(1))
        const wrong = [
          () => verifyInclusion(leaf, index, tree, turned),
          () => verifyInclusion(leaf, index, tree, path.slice(1)),
          () => verifyInclusion(leaf, index, tree, path.slice(0, -1)),
          () => verifyInclusion(leaf, index, tree, [...path, root]),
          () => verifyInclusion(leaf, (index + 1) % size, tree, path),
          () => verifyInclusion(leaf, size, tree, path),
          () => verifyInclusion(leaf, index, { size, root: other }, path),
          () => verifyConsistency(past, tree, bent),
          () => verifyConsistency(past, tree, proof.slice(1)),
          () => verifyConsistency(past, tree, proof.slice(0, -1)),
          () => verifyConsistency(past, tree, [...proof, root]),
          () => verifyConsistency(past, { size, root: other }, proof),
          () => verifyConsistency({ size: older, root: other }, tree, proof),
          () => verifyConsistency(tree, past, proof),
          () => verifyConsistency(tree, { size, root: other }, []),
          () => verifyConsistency(tree, tree, [root]),
        ]
        for (const [i, refused] of wrong.entries())
          await expect(refused(), `case ${i}`).rejects.toMatchObject(refusal)
      }),
      { numRuns: 60 },
    )
  })

  it('refuses to prove what is not in the tree', async () => {
    const { nodes } = await tilesOf([naiveLeaf(encode('one'))])
    for (const make of [
      () => proveInclusion(1, 1, nodes(1)),
      () => proveInclusion(-1, 1, nodes(1)),
      () => proveConsistency(2, 1, nodes(1)),
    ])
      await expect(make()).rejects.toMatchObject({ code: 'ERR_REQUEST_INVALID' })
  })

  it('refuses a tile of another length than its width', async () => {
    const short = nodesOfTiles(3, async () => new Uint8Array(95))
    await expect(treeRoot(3, short)).rejects.toMatchObject(refusal)
  })
})

describe('tile paths', () => {
  it('have the spelling of tlog-tiles', () => {
    const path = formatTilePath({ level: 0, index: 1_234_067, width: 256 })
    expect(path).toBe('tile/0/x001/x234/067')
    expect(formatTilePath({ level: 'entries', index: 5, width: 7 })).toBe('tile/entries/005.p/7')
    expect(hashesAt(1, 70_000)).toBe(273)
    expect(tileOf(0, 274, 70_000).width).toBe(0)
  })

  it('go back and forth for every coordinate', () => {
    const level = fc.oneof(fc.integer({ min: 0, max: 6 }), fc.constant('entries' as const))
    const index = fc.integer({ min: 0, max: 2 ** 40 })
    const width = fc.integer({ min: 1, max: 256 })
    fc.assert(
      fc.property(level, index, width, (l, i, w) => {
        const coordinate = { level: l, index: i, width: w }
        expect(parseTilePath(formatTilePath(coordinate))).toEqual(coordinate)
      }),
    )
  })

  it('are refused in any other spelling', () => {
    for (const path of [
      'tile/0/0',
      'tile/0/0000',
      'tile/7/000',
      'tile/00/000',
      'tile/0/x000/001',
      'tile/0/000.p/0',
      'tile/0/000.p/256',
      'tile/0/000.p/007',
      'tile/0/001/002',
      'tile/0/x001',
      'tile/0/000/',
      '/tile/0/000',
      'tile/data/000',
      'tile/0/x999/x999/x999/x999/x999/999',
      'tile/0/../000',
    ])
      expect(() => parseTilePath(path), path).toThrow(
        expect.objectContaining({ code: 'ERR_REQUEST_INVALID' }),
      )
  })
})
