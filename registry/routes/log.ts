import { parseDigest } from '@graft/sdk/format/digest.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import {
  formatTilePath,
  parseTilePath,
  TILE_WIDTH,
  tileOf,
} from '@graft/sdk/format/tlog/tile-path.ts'
import { formatVerifierKey, NOTE_SIGNATURE, noteKey } from '@graft/sdk/format/tlog/verifier-key.ts'
import type { LogKey } from '@graft/sdk/protocol/log.ts'
import { Hono } from 'hono'
import type { RegistryDeps } from '../deps.ts'
import { cacheControl, cachedJson, IMMUTABLE_SECONDS } from '../http/answer.ts'
import { readQuery } from '../http/body.ts'
import type { RegistryEnv } from '../http/context.ts'
import { authenticatePull } from '../identity/authenticate.ts'
import { currentCheckpoint } from '../log/checkpoint.ts'
import { acceptCosignatures, withCosignatures } from '../log/cosignatures.ts'
import { readBundle, readFeed } from '../log/entries.ts'
import { logOrigin } from '../log/origin.ts'
import { proveVersion } from '../log/prove-version.ts'
import { readStoredTile } from '../log/stored-tree.ts'
import { assertReadable } from '../packages/read-version.ts'
import { readAll } from '../stores/blob-store.ts'

/** Entries that one answer of the feed holds at most. */
const MAX_FEED_ENTRIES = 256

const NO_CACHE = { 'cache-control': 'no-cache' }

function count(text: string | undefined, fallback: number, most: number, where: string): number {
  if (text === undefined) return fallback
  const value = Number(text)
  if (/^\d{1,16}$/.test(text) && value <= most) return value
  throw new GraftError(
    'ERR_REQUEST_INVALID',
    expected(`query: ${where}`, `a whole number up to ${most}`, text),
  )
}

/** The transparency log: C2SP tlog-tiles, proofs of versions, a feed for monitors, and the door for witnesses. */
export const logRoutes = (deps: RegistryDeps) =>
  new Hono<RegistryEnv>()
    .get('/checkpoint', async (c) =>
      c.text(await withCosignatures(deps, await currentCheckpoint(deps)), 200, NO_CACHE),
    )
    .get('/tile/:path{.+}', async (c) => {
      const tile = parseTilePath(`tile/${c.req.param('path')}`)
      // Only what a checkpoint covers: a leaf beyond it may not have been promised to anybody.
      const { size } = await currentCheckpoint(deps)
      if (tile.width > tileOf(tile.level, tile.index, size).width)
        throw new GraftError(
          'ERR_BLOB_UNKNOWN',
          `${formatTilePath(tile)} is beyond the log's ${size} leaves`,
        )
      const begin = tile.index * TILE_WIDTH
      const bytes = await (tile.level === 'entries'
        ? readBundle(deps, begin, begin + tile.width)
        : readStoredTile(deps.catalogue, tile))
      return c.body(bytes, 200, {
        'content-type': 'application/octet-stream',
        'cache-control': cacheControl(IMMUTABLE_SECONDS, true),
      })
    })
    .get('/v1/log/key', async (c) => {
      const origin = logOrigin(deps.issuerName)
      const key = await noteKey(origin, NOTE_SIGNATURE.ed25519, deps.logKey.publicJwk)
      const witnesses = [...deps.witnesses]
      const answer: LogKey = { origin, key: formatVerifierKey(key), witnesses }
      return cachedJson(c, answer, 'no-cache')
    })
    .get('/v1/log/entries', async (c) => {
      const { from, limit } = readQuery(c, ['from', 'limit'])
      const begin = count(from, 0, Number.MAX_SAFE_INTEGER, 'from')
      const most = count(limit, MAX_FEED_ENTRIES, MAX_FEED_ENTRIES, 'limit')
      const { size } = await currentCheckpoint(deps)
      return c.json(await readFeed(deps, size, begin, most), 200, NO_CACHE)
    })
    .post('/v1/log/cosignatures', async (c) => {
      const body = c.req.raw.body
      const bytes = body
        ? await readAll(body, deps.limits.json, 'the signed note')
        : new Uint8Array(0)
      return c.json({ accepted: await acceptCosignatures(deps, new TextDecoder().decode(bytes)) })
    })
    .get('/v1/manifests/:digest/log', async (c) => {
      const digest = parseDigest(c.req.param('digest'), 'manifest')
      await assertReadable(deps, await authenticatePull(deps, c), digest)
      return c.json(await proveVersion(deps, digest), 200, { 'cache-control': 'private, no-cache' })
    })
