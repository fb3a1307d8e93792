import { encodeBase64 } from '@graft/sdk/format/base64url.ts'
import { sha256 } from '@graft/sdk/format/digest.ts'
import { MUTABLE_SECONDS, matchesEtag } from '../http/answer.ts'
import type { RegistryContext } from '../http/context.ts'
import { layout, type Page } from './layout.ts'
import { STYLE } from './style.ts'

/** Pages run no script, load nothing but their icon, and stand in no frame. */
async function headersOf(): Promise<Record<string, string>> {
  const sum = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(STYLE))
  const style = `'sha256-${encodeBase64(new Uint8Array(sum))}'`
  return {
    'content-security-policy': `default-src 'none'; style-src ${style}; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'`,
    'content-type': 'text/html; charset=UTF-8',
    'cross-origin-opener-policy': 'same-origin',
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
  }
}

let headers: Record<string, string> | null = null

/** The page with an ETag over its bytes; 304 when the browser already has them. */
export async function pageResponse(
  c: RegistryContext,
  page: Page,
  status: 200 | 400 | 404 | 500 = 200,
): Promise<Response> {
  headers ??= await headersOf()
  const body = String(await layout(page))
  if (status !== 200) return c.body(body, status, { ...headers, 'cache-control': 'no-store' })
  const etag = `"${(await sha256(body)).slice('sha256:'.length)}"`
  const cached = { ...headers, etag, 'cache-control': `public, max-age=${MUTABLE_SECONDS}` }
  return matchesEtag(c.req.header('if-none-match'), etag)
    ? c.body(null, 304, cached)
    : c.body(body, 200, cached)
}

/** A person's browser asks, and not for the API. */
export const wantsPage = (c: RegistryContext): boolean =>
  c.req.method === 'GET' &&
  !c.req.path.startsWith('/v1/') &&
  (c.req.header('accept') ?? '').includes('text/html')
