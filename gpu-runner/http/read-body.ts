import { GraftError } from '@graft/sdk/format/errors.ts'
import { type Json, parseStrictJson } from '@graft/sdk/format/strict-json.ts'

/** A prompt of a million tokens as ids fits; what is larger is no request. */
export const MAX_BODY_BYTES = 16 * 1024 * 1024

/** @throws ERR_BODY_TOO_LARGE, ERR_JSON_INVALID */
export async function readBody(request: Request): Promise<Json> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of request.body ?? []) {
    size += chunk.length
    if (size > MAX_BODY_BYTES)
      throw new GraftError('ERR_BODY_TOO_LARGE', `body must be at most ${MAX_BODY_BYTES} bytes`)
    chunks.push(chunk)
  }
  return parseStrictJson(new Uint8Array(await new Blob(chunks as BlobPart[]).arrayBuffer()), 'body')
}
