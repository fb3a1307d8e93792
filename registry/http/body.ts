import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { parseStrictJson } from '@graft/sdk/format/strict-json.ts'
import type * as z from 'zod'
import { readAll } from '../stores/blob-store.ts'
import type { RegistryContext } from './context.ts'

/** The JSON body as the schema has it. @throws ERR_BODY_TOO_LARGE, ERR_JSON_INVALID, ERR_REQUEST_INVALID */
export async function readJson<T>(
  c: RegistryContext,
  schema: z.ZodType<T>,
  limit: number,
): Promise<T> {
  const length = Number(c.req.header('content-length') ?? 0)
  if (length > limit)
    throw new GraftError(
      'ERR_BODY_TOO_LARGE',
      `the body must be at most ${limit} bytes, got ${length}`,
    )
  const body = c.req.raw.body
  if (body === null) throw new GraftError('ERR_REQUEST_INVALID', 'the body must be JSON, got none')
  const bytes = await readAll(body, limit, 'the body')
  return checked(parseStrictJson(bytes, 'body'), schema, 'body')
}

/** @throws ERR_REQUEST_INVALID that names the first field that is wrong */
export function checked<T>(value: unknown, schema: z.ZodType<T>, where: string): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]!
  const path = [where, ...issue.path.map(String)].join('.')
  throw new GraftError('ERR_REQUEST_INVALID', `${path}: ${issue.message}`)
}

/** Query parameters, each at most once and each known. @throws ERR_REQUEST_INVALID */
export function readQuery<K extends string>(
  c: RegistryContext,
  known: readonly K[],
): Partial<Record<K, string>> {
  const values: Partial<Record<K, string>> = {}
  for (const [name, all] of Object.entries(c.req.queries())) {
    if (!(known as readonly string[]).includes(name))
      throw new GraftError(
        'ERR_REQUEST_INVALID',
        expected('query', `of ${known.join(', ') || 'no parameters'}`, name),
      )
    if (all.length !== 1)
      throw new GraftError('ERR_REQUEST_INVALID', expected(`query: ${name}`, 'given once', all))
    values[name as K] = all[0]!
  }
  return values
}
