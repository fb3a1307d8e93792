import { isPackageName } from '@graft/sdk/format/parse-reference.ts'
import { SCOPES, type Scope } from '@graft/sdk/protocol/tokens.ts'
import { Hono } from 'hono'
import type { RegistryDeps } from '../deps.ts'
import type { RegistryContext, RegistryEnv } from '../http/context.ts'
import { readForm } from '../http/form.ts'
import { OAuthError, oauthAnswer } from '../http/oauth.ts'
import { pollDeviceLogin, startDeviceLogin } from '../identity/device-login.ts'
import { exchangeWorkload, PUBLISH_TOKEN_SECONDS } from '../identity/oidc/exchange-workload.ts'
import { createIssuerKeys, type IssuerKeys } from '../identity/oidc/issuer-keys.ts'
import { formatUserCode } from '../identity/user-code.ts'

const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code'
/** The one public client: programs have no secret to prove another name with (RFC 8628 section 5.6). */
const CLIENT = 'graft-cli'
/** RFC 8693 sections 2.1 and 3. */
const EXCHANGE_GRANT = 'urn:ietf:params:oauth:grant-type:token-exchange'
const ID_TOKEN = 'urn:ietf:params:oauth:token-type:id_token'
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token'
const DEFAULT_SCOPES: Scope[] = ['infer', 'read', 'publish']

function field(form: Map<string, string>, name: string): string {
  const value = form.get(name)
  if (value) return value
  throw new OAuthError('invalid_request', `${name} is missing`)
}

function assertClient(form: Map<string, string>): void {
  if (field(form, 'client_id') !== CLIENT)
    throw new OAuthError('invalid_client', `client_id must be "${CLIENT}"`)
}

function parseScopes(text: string | undefined): Scope[] {
  if (text === undefined) return DEFAULT_SCOPES
  const asked = [...new Set(text.split(' '))]
  const unknown = asked.find((scope) => !(SCOPES as readonly string[]).includes(scope))
  if (unknown === undefined) return asked as Scope[]
  throw new OAuthError('invalid_scope', `scope must be some of ${SCOPES.join(' ')}`)
}

/** Where this request found the registry; behind a proxy that ends TLS the issuer's name tells the scheme. */
function originOf(deps: RegistryDeps, c: RegistryContext): string {
  const { origin, host } = new URL(c.req.url)
  return deps.issuerName === `https://${host}` ? deps.issuerName : origin
}

/** Trusted publishing: a CI's identity token for one that publishes the package named by `audience`. */
async function exchange(deps: RegistryDeps, keys: IssuerKeys, form: Map<string, string>) {
  if (field(form, 'subject_token_type') !== ID_TOKEN)
    throw new OAuthError('invalid_request', `subject_token_type must be "${ID_TOKEN}"`)
  const name = field(form, 'audience')
  if (!isPackageName(name))
    throw new OAuthError('invalid_target', 'audience must be the package, like @scope/name')
  const { token } = await exchangeWorkload(deps, keys, field(form, 'subject_token'), name)
  return {
    access_token: token,
    issued_token_type: ACCESS_TOKEN,
    token_type: 'Bearer',
    expires_in: PUBLISH_TOKEN_SECONDS,
    scope: 'publish',
  }
}

/** RFC 6749's token endpoint with the grants of RFC 8628 and RFC 8693; their shapes, not this registry's. */
export const oauthRoutes = (deps: RegistryDeps) => {
  // Kept between requests; workerd wants its fetch called without an object.
  const ask: typeof fetch = deps.fetch ?? ((input, init) => fetch(input, init))
  const keys = createIssuerKeys({ fetch: ask, clock: deps.clock })
  return new Hono<RegistryEnv>()
    .post('/oauth/device_authorization', (c) =>
      oauthAnswer(c, async () => {
        const form = await readForm(c, deps.limits.json)
        assertClient(form)
        const started = await startDeviceLogin(deps, parseScopes(form.get('scope')))
        const userCode = formatUserCode(started.userCode)
        const page = `${originOf(deps, c)}/device`
        return {
          device_code: started.deviceCode,
          user_code: userCode,
          verification_uri: page,
          verification_uri_complete: `${page}?user_code=${userCode}`,
          expires_in: started.expiresIn,
          interval: started.interval,
        }
      }),
    )
    .post('/oauth/token', (c) =>
      oauthAnswer(c, async () => {
        const form = await readForm(c, deps.limits.json)
        const grant = field(form, 'grant_type')
        if (grant === EXCHANGE_GRANT) return exchange(deps, keys, form)
        if (grant !== DEVICE_GRANT)
          throw new OAuthError(
            'unsupported_grant_type',
            `grant_type must be "${DEVICE_GRANT}" or "${EXCHANGE_GRANT}"`,
          )
        assertClient(form)
        const { token, scopes, seconds } = await pollDeviceLogin(deps, field(form, 'device_code'))
        return {
          access_token: token,
          token_type: 'Bearer',
          expires_in: seconds,
          scope: scopes.join(' '),
        }
      }),
    )
}
