import { concatBytes } from '../format/bytes.ts'
import { type Digest, sha256 } from '../format/digest.ts'
import { expected, GraftError, isGraftError } from '../format/errors.ts'
import { readBody } from './body.ts'
import type { Http } from './http.ts'
import { path } from './path.ts'

export interface DownloadOptions {
  /** Bytes the blob must have; one that is longer is cut off at once. */
  size?: number | undefined
  signal?: AbortSignal | undefined
  onProgress?: ((done: number, total: number | null) => void) | undefined
  /** Bearer of a pull capability instead of the client's own token. */
  capability?: string | undefined
}

/** How often a broken download goes on from the byte it had reached. */
const RESUMES = 3
const IDLE_MS = 30_000

/**
 * A blob's bytes, never given out before their sha256 was checked. A connection that breaks is resumed by Range.
 * @throws ERR_DIGEST_MISMATCH, ERR_BODY_TOO_LARGE, ERR_BLOB_UNKNOWN, ERR_UNREACHABLE
 */
export async function download(
  http: Http,
  digest: Digest,
  options: DownloadOptions = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const what = `blob ${digest}`
  const chunks: Uint8Array[] = []
  let done = 0
  let total = options.size ?? null
  for (let resumed = 0; ; resumed++) {
    try {
      const { response, watch } = await http.send({
        method: 'GET',
        path: path`/v1/blobs/${digest}`,
        headers: {
          ...(done > 0 ? { range: `bytes=${done}-` } : {}),
          ...(options.capability ? { authorization: `Bearer ${options.capability}` } : {}),
        },
        signal: options.signal,
        what,
      })
      if (done > 0 && response.status !== 206) {
        chunks.length = 0
        done = 0
      }
      const length = Number(response.headers.get('content-length') ?? Number.NaN)
      if (Number.isFinite(length)) total ??= done + length
      for await (const chunk of readBody(response, watch, () => IDLE_MS, what)) {
        chunks.push(chunk)
        done += chunk.length
        if (options.size !== undefined && done > options.size)
          throw new GraftError('ERR_BODY_TOO_LARGE', expected(what, `${options.size} bytes`, done))
        options.onProgress?.(done, total)
      }
      if (total === null || done >= total) break
      if (resumed >= RESUMES)
        throw new GraftError('ERR_UNREACHABLE', `${what} ended after ${done} of ${total} bytes`)
    } catch (e) {
      if (!isGraftError(e) || e.code !== 'ERR_UNREACHABLE' || resumed >= RESUMES) throw e
    }
  }
  const bytes = concatBytes(chunks)
  const got = await sha256(bytes)
  if (got === digest) return bytes
  throw new GraftError(
    'ERR_DIGEST_MISMATCH',
    `${expected(what, 'these bytes', got)}; the copy is damaged, pull again`,
  )
}
