import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { readAll } from '../stores/blob-store.ts'
import type { RegistryContext } from './context.ts'

/**
 * The fields of a form, each at most once (RFC 6749 section 3.2).
 * @throws ERR_REQUEST_INVALID, ERR_BODY_TOO_LARGE
 */
export async function readForm(c: RegistryContext, limit: number): Promise<Map<string, string>> {
  const type = c.req.header('content-type')?.split(';')[0]?.trim().toLowerCase()
  const wanted = 'application/x-www-form-urlencoded'
  if (type !== wanted)
    throw new GraftError('ERR_REQUEST_INVALID', expected('content-type', wanted, type ?? 'none'))
  const { body } = c.req.raw
  const text = body === null ? '' : new TextDecoder().decode(await readAll(body, limit, 'the body'))
  const fields = new Map<string, string>()
  for (const [name, value] of new URLSearchParams(text)) {
    if (fields.has(name))
      throw new GraftError('ERR_REQUEST_INVALID', expected(`body: ${name}`, 'given once', 'twice'))
    fields.set(name, value)
  }
  return fields
}
