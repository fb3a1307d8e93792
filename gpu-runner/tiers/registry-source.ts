import { createHash } from 'node:crypto'
import { concatBytes } from '@graft/sdk/format/bytes.ts'
import { type Digest, fromHex } from '@graft/sdk/format/digest.ts'
import { ERRORS, type ErrorCode, GraftError } from '@graft/sdk/format/errors.ts'

/** Where adapters come from when no tier holds them. `capability` is the caller's right to these bytes. */
export interface RegistrySource {
  /** The version record as the registry sent it, JSON. @throws what the registry answers, ERR_UNREACHABLE */
  record(manifest: Digest, capability: string | null, signal: AbortSignal): Promise<Uint8Array>
  /**
   * `size` bytes that hash to `digest`, in shared memory that is taken once and hashed as it fills.
   * @throws also ERR_DIGEST_MISMATCH, ERR_BODY_TOO_LARGE
   */
  blob(
    digest: Digest,
    size: number,
    capability: string | null,
    signal: AbortSignal,
  ): Promise<Uint8Array>
}

/** A record is a manifest and its attestations; far above an honest one. */
const MAX_RECORD_BYTES = 32 * 1024 * 1024

async function* atMost(response: Response, limit: number, where: string) {
  let size = 0
  for await (const chunk of response.body ?? []) {
    size += chunk.length
    if (size > limit)
      throw new GraftError(
        'ERR_BODY_TOO_LARGE',
        `${where} must be at most ${limit} bytes; the registry sends more`,
      )
    yield chunk
  }
}

async function refusal(response: Response, where: string): Promise<GraftError> {
  const body = (await response.json().catch(() => null)) as {
    error?: { code?: string; message?: string }
  } | null
  const code = body?.error?.code
  if (code !== undefined && Object.hasOwn(ERRORS, code))
    return new GraftError(code as ErrorCode, `registry: ${body?.error?.message ?? where}`)
  return new GraftError('ERR_UNREACHABLE', `the registry answers ${response.status} for ${where}`)
}

export function createRegistrySource(deps: { url: string; fetch: typeof fetch }): RegistrySource {
  /** The answer's chunks, handed to `read`; what goes wrong on the way there or back is ERR_UNREACHABLE. */
  const get = async <T>(
    path: string,
    limit: number,
    capability: string | null,
    signal: AbortSignal,
    read: (chunks: AsyncIterable<Uint8Array>) => Promise<T>,
  ): Promise<T> => {
    const headers = capability === null ? {} : { authorization: `Bearer ${capability}` }
    try {
      const response = await deps.fetch(new URL(path, deps.url), { headers, signal })
      if (!response.ok) throw await refusal(response, path)
      return await read(atMost(response, limit, path))
    } catch (cause) {
      if (cause instanceof GraftError) throw cause
      signal.throwIfAborted()
      throw new GraftError(
        'ERR_UNREACHABLE',
        `the registry at ${deps.url} does not answer for ${path}; is it running?`,
        { cause },
      )
    }
  }
  return {
    record: (manifest, capability, signal) =>
      get(`/v1/manifests/${manifest}`, MAX_RECORD_BYTES, capability, signal, async (chunks) => {
        const parts: Uint8Array[] = []
        for await (const chunk of chunks) parts.push(chunk)
        return concatBytes(parts)
      }),
    blob: (digest, size, capability, signal) =>
      get(`/v1/blobs/${digest}`, size, capability, signal, async (chunks) => {
        const bytes = new Uint8Array(new SharedArrayBuffer(size))
        const hash = createHash('sha256')
        let at = 0
        for await (const chunk of chunks) {
          bytes.set(chunk, at)
          hash.update(chunk)
          at += chunk.length
        }
        const got = fromHex(hash.digest('hex'))
        if (got === digest && at === size) return bytes
        throw new GraftError(
          'ERR_DIGEST_MISMATCH',
          `blob from the registry must be ${size} bytes that hash to ${digest}, got ${at} bytes of ${got}; nothing was loaded`,
        )
      }),
  }
}
