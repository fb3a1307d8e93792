import { ERRORS, type ErrorCode, GraftError } from '../format/errors.ts'
import { retryAfterSeconds } from './retry.ts'

const BY_STATUS: Record<number, ErrorCode> = {
  400: 'ERR_REQUEST_INVALID',
  401: 'ERR_UNAUTHENTICATED',
  402: 'ERR_NO_BALANCE',
  403: 'ERR_FORBIDDEN',
  404: 'ERR_ROUTE_UNKNOWN',
  413: 'ERR_BODY_TOO_LARGE',
  429: 'ERR_RATE_LIMITED',
  502: 'ERR_UNREACHABLE',
  503: 'ERR_OVERLOADED',
  504: 'ERR_TIMEOUT',
}

const MAX_QUOTED = 200

/**
 * The GraftError of an `{ error: { code, message } }` body or in-band event. `status` decides when the body is not
 * Graft's own (a proxy's page); `where` names the call.
 */
export function errorFromBody(
  body: unknown,
  status: number,
  where: string,
  retryAfter?: number,
): GraftError {
  const options = retryAfter === undefined ? {} : { retryAfter }
  const error = isRecord(body) && isRecord(body['error']) ? body['error'] : null
  const code = error?.['code']
  const message = typeof error?.['message'] === 'string' ? error['message'] : null
  if (typeof code === 'string' && Object.hasOwn(ERRORS, code))
    return new GraftError(code as ErrorCode, message ?? `${where} failed`, options)
  const said = message ?? (typeof body === 'string' ? body.trim().slice(0, MAX_QUOTED) : '')
  const text = `${where} answered ${status}, which is not a Graft error${said ? `: ${said}` : ''}`
  return new GraftError(BY_STATUS[status] ?? 'ERR_INTERNAL', text, options)
}

/** Reads an answer that is not ok. Never throws: a body that breaks off is reported by its status. */
export async function errorFromResponse(response: Response, where: string): Promise<GraftError> {
  const text = await response.text().catch(() => '')
  const retryAfter = retryAfterSeconds(response.headers, Date.now()) ?? undefined
  return errorFromBody(parseJson(text) ?? text, response.status, where, retryAfter)
}

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** undefined when the text is not JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
