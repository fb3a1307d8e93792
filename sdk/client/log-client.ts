import { concatBytes } from '../format/bytes.ts'
import type { Digest } from '../format/digest.ts'
import { expected, GraftError } from '../format/errors.ts'
import { HASH_BYTES } from '../format/tlog/hash.ts'
import { MAX_NOTE_LENGTH } from '../format/tlog/signed-note.ts'
import { formatTilePath, type TileCoordinate } from '../format/tlog/tile-path.ts'
import type { LogFeed, LogKey, LogProof } from '../protocol/log.ts'
import { readBody } from './body.ts'
import type { Http } from './http.ts'
import { path } from './path.ts'

const IDLE_MS = 30_000

/** A registry's transparency log over HTTP. Nothing that it gives is proven yet: verify-log.ts does that. */
export interface LogClient {
  key(): Promise<LogKey>
  /** Signed note. */
  checkpoint(): Promise<string>
  proof(manifest: Digest): Promise<LogProof>
  /** Hashes of 32 bytes. */
  tile(tile: TileCoordinate): Promise<Uint8Array>
  /** Entries from `from` on, a page at a time; ask again from `next`. */
  entries(from: number): Promise<LogFeed>
}

export function createLogClient(http: Http): LogClient {
  const get = <T>(target: string, what: string): Promise<T> =>
    http.json<T>({ method: 'GET', path: target, what })

  /** @throws ERR_BODY_TOO_LARGE beyond `limit` bytes, without reading on */
  async function bytes(target: string, limit: number, what: string): Promise<Uint8Array> {
    const { response, watch } = await http.send({ method: 'GET', path: target, what })
    const chunks: Uint8Array[] = []
    let size = 0
    for await (const chunk of readBody(response, watch, () => IDLE_MS, what)) {
      size += chunk.length
      if (size > limit)
        throw new GraftError('ERR_BODY_TOO_LARGE', expected(what, `at most ${limit} bytes`, size))
      chunks.push(chunk)
    }
    return concatBytes(chunks)
  }

  return {
    key: () => get<LogKey>('/v1/log/key', 'key of the log'),
    checkpoint: async () =>
      new TextDecoder().decode(await bytes('/checkpoint', MAX_NOTE_LENGTH, 'checkpoint')),
    proof: (manifest) =>
      get<LogProof>(path`/v1/manifests/${manifest}/log`, `log proof of ${manifest}`),
    tile(tile) {
      const target = formatTilePath(tile)
      return bytes(`/${target}`, tile.width * HASH_BYTES, target)
    },
    entries: (from) => get<LogFeed>(`/v1/log/entries?from=${from}`, `log entries from ${from}`),
  }
}
