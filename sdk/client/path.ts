import { expected, GraftError } from '../format/errors.ts'

/** Refuses what a URL parser would fold away, so that a name can never climb out of its route. */
const segment = (value: string): string => {
  if (/^\.{0,2}$/.test(value))
    throw new GraftError('ERR_REQUEST_INVALID', expected('path segment', 'a name', value))
  return encodeURIComponent(value).replaceAll('%40', '@').replaceAll('%3A', ':')
}

/** Tag for URL paths: path`/v1/blobs/${digest}` encodes every value as one segment. */
export const path = (parts: TemplateStringsArray, ...values: string[]): string =>
  String.raw({ raw: parts }, ...values.map(segment))

/** "?a=b" of the values that are given, or "". */
export function query(values: Record<string, string | undefined>): string {
  const given = Object.entries(values).filter((e): e is [string, string] => e[1] !== undefined)
  return given.length === 0 ? '' : `?${new URLSearchParams(given)}`
}

/** A server's base URL without trailing slash. @throws ERR_REQUEST_INVALID */
export function serverUrl(url: string, where: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : null
  if (parsed && /^https?:$/.test(parsed.protocol)) return url.replace(/\/+$/, '')
  throw new GraftError('ERR_REQUEST_INVALID', expected(where, 'an http or https URL', url))
}
