import { isGraftError } from '@graft/sdk/format/errors.ts'
import type { RegistryContext } from './context.ts'

/** RFC 6749 section 5.2, RFC 8628 section 3.5 and RFC 8693 section 2.2.2. */
export type OAuthCode =
  | 'invalid_request'
  | 'invalid_client'
  | 'invalid_grant'
  | 'invalid_scope'
  | 'invalid_target'
  | 'unsupported_grant_type'
  | 'authorization_pending'
  | 'slow_down'
  | 'access_denied'
  | 'expired_token'
  | 'temporarily_unavailable'

/** A refusal in the words that OAuth clients read, instead of this registry's own error body. */
export class OAuthError extends Error {
  override name = 'OAuthError'
  readonly code: OAuthCode
  constructor(code: OAuthCode, message: string) {
    super(message)
    this.code = code
  }
}

const NO_STORE = { 'cache-control': 'no-store', pragma: 'no-cache' }

/** The answer of an OAuth endpoint; defects go on to the registry's own handler. */
export async function oauthAnswer(
  c: RegistryContext,
  work: () => Promise<object>,
): Promise<Response> {
  try {
    return c.json(await work(), 200, NO_STORE)
  } catch (e) {
    const known = e instanceof OAuthError || (isGraftError(e) && e.status < 500)
    if (!known) throw e
    const code = e instanceof OAuthError ? e.code : 'invalid_request'
    const status = code === 'temporarily_unavailable' ? 503 : 400
    return c.json({ error: code, error_description: e.message }, status, NO_STORE)
  }
}
