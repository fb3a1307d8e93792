import { decodeBase64url, encodeBase64url } from '@graft/sdk/format/base64url.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'

/** Where a page of packages ended: its last row's time and name. */
export interface Cursor {
  publishedAt: string
  name: string
}

const MAX_LENGTH = 400

export const formatCursor = ({ publishedAt, name }: Cursor): string =>
  encodeBase64url(new TextEncoder().encode(JSON.stringify([publishedAt, name])))

/** @throws ERR_REQUEST_INVALID */
export function parseCursor(text: string): Cursor {
  const wrong = (cause?: unknown) =>
    new GraftError('ERR_REQUEST_INVALID', expected('query: cursor', 'one that a page gave', text), {
      cause,
    })
  if (text.length > MAX_LENGTH) throw wrong()
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder().decode(decodeBase64url(text)))
  } catch (cause) {
    throw wrong(cause)
  }
  const [publishedAt, name] = Array.isArray(value) && value.length === 2 ? value : []
  if (typeof publishedAt !== 'string' || typeof name !== 'string') throw wrong()
  return { publishedAt, name }
}
