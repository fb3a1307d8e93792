import { concatBytes } from '@graft/sdk/format/bytes.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { sha256 } from '@graft/sdk/format/digest.ts'
import { ERRORS, type ErrorCode, GraftError } from '@graft/sdk/format/errors.ts'

/** Where adapters come from when no tier holds them. `capability` is the caller's right to these bytes. */
export interface RegistrySource {
  /** The version record as the registry sent it, JSON. @throws what the registry answers, ERR_UNREACHABLE */
  record(manifest: Digest, capability: string | null, signal: AbortSignal): Promise<Uint8Array>
  /** Bytes that hash to `digest`. @throws also ERR_DIGEST_MISMATCH, ERR_BODY_TOO_LARGE */
  blob(
    digest: Digest,
    maxBytes: number,
    capability: string | null,
    signal: AbortSignal,
  ): Promise<Uint8Array>
}

/** A record is a manifest and its attestations; far above an honest one. */
const MAX_RECORD_BYTES = 32 * 1024 * 1024

async function readAtMost(response: Response, limit: number, where: string): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of response.body ?? []) {
    size += chunk.length
    if (size > limit)
      throw new GraftError(
        'ERR_BODY_TOO_LARGE',
        `${where} must be at most ${limit} bytes; the registry sends more`,
      )
    chunks.push(chunk)
  }
  return concatBytes(chunks)
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
  const get = async (
    path: string,
    limit: number,
    capability: string | null,
    signal: AbortSignal,
  ): Promise<Uint8Array> => {
    const headers = capability === null ? {} : { authorization: `Bearer ${capability}` }
    try {
      const response = await deps.fetch(new URL(path, deps.url), { headers, signal })
      if (!response.ok) throw await refusal(response, path)
      return await readAtMost(response, limit, path)
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
      get(`/v1/manifests/${manifest}`, MAX_RECORD_BYTES, capability, signal),
    async blob(digest, maxBytes, capability, signal) {
      const bytes = await get(`/v1/blobs/${digest}`, maxBytes, capability, signal)
      const got = await sha256(bytes)
      if (got === digest) return bytes
      throw new GraftError(
        'ERR_DIGEST_MISMATCH',
        `blob from the registry must hash to ${digest}, got ${got}; nothing was loaded`,
      )
    },
  }
}
