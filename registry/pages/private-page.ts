import { encodeBase64 } from '@graft/sdk/format/base64url.ts'
import type { RegistryContext } from '../http/context.ts'
import { layout, type Page } from './layout.ts'
import { STYLE } from './style.ts'

/** A page for one person: kept by nobody, in no frame, without scripts, and only this site's forms. */
export async function privatePage(
  c: RegistryContext,
  page: Page,
  status: 200 | 400 | 401 | 403 = 200,
): Promise<Response> {
  const sum = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(STYLE))
  const style = `'sha256-${encodeBase64(new Uint8Array(sum))}'`
  return c.html(String(await layout(page)), status, {
    'cache-control': 'no-store',
    'content-security-policy': `default-src 'none'; style-src ${style}; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'`,
    'cross-origin-opener-policy': 'same-origin',
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
  })
}
