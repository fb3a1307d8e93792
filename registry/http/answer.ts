import { sha256 } from '@graft/sdk/format/digest.ts'
import type { RegistryContext } from './context.ts'

/** For answers that can never change. */
export const IMMUTABLE_SECONDS = 31_536_000
/** How long a tag or a range may be remembered; the design promises that a yank is seen this soon. */
export const MUTABLE_SECONDS = 30

/** Shared caches may keep only what anybody may read. */
export const cacheControl = (seconds: number, isPublic: boolean): string =>
  `${isPublic ? 'public' : 'private'}, max-age=${seconds}${seconds === IMMUTABLE_SECONDS ? ', immutable' : ''}`

/** RFC 9110 section 13.1.2: weak comparison, any of a list, or "*". */
export const matchesEtag = (ifNoneMatch: string | undefined, etag: string): boolean =>
  (ifNoneMatch ?? '')
    .split(',')
    .map((tag) => tag.trim().replace(/^W\//, ''))
    .some((tag) => tag === etag || tag === '*')

/** JSON with an ETag over its bytes; 304 when the caller already has them. */
export async function cachedJson(
  c: RegistryContext,
  value: unknown,
  control: string,
): Promise<Response> {
  const body = JSON.stringify(value)
  const etag = `"${(await sha256(body)).slice('sha256:'.length)}"`
  const headers = { etag, 'cache-control': control, vary: 'authorization' }
  if (matchesEtag(c.req.header('if-none-match'), etag)) return c.body(null, 304, headers)
  return c.body(body, 200, { ...headers, 'content-type': 'application/json' })
}
