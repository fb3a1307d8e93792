import { createHash, randomUUID } from 'node:crypto'
import { Hono } from 'hono'
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose'
import { listen } from '../edge/helpers/listen.ts'

export const CLIENT_SECRET = 'a secret & more'

/** An OpenID Connect issuer on this machine: discovery, keys, sign-in, and whatever token a test wants signed. */
export async function startIssuer(alg = 'RS256') {
  const makeKey = async (kid: string) => {
    const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
    return { kid, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } }
  }
  let key = await makeKey('first')
  const state = {
    ...{ keySets: 0, down: false, discovery: {} as object },
    /** Who is signed in here, and what is said of them. */
    subject: 'subject-1',
    claims: {} as object,
  }
  const codes = new Map<string, { query: Record<string, string>; sub: string }>()
  let url = ''
  const app = new Hono()
    .use(async (c, next) => (state.down ? c.text('down', 503) : next()))
    .get('/.well-known/openid-configuration', (c) =>
      c.json({
        ...{ issuer: url, jwks_uri: `${url}/keys` },
        ...{ authorization_endpoint: `${url}/authorize`, token_endpoint: `${url}/token` },
        ...state.discovery,
      }),
    )
    // OpenID Connect Core 1.0 section 3.1, of a person who is signed in and always agrees.
    .get('/authorize', (c) => {
      const query = c.req.query()
      const wanted = { response_type: 'code', scope: 'openid', code_challenge_method: 'S256' }
      for (const [name, value] of Object.entries(wanted))
        if (query[name] !== value) return c.text(`${name}?`, 400)
      const code = randomUUID()
      codes.set(code, { query, sub: state.subject })
      const back = new URL(query['redirect_uri']!)
      back.search = new URLSearchParams({ code, state: query['state']!, iss: url }).toString()
      return c.redirect(back.href)
    })
    .post('/token', async (c) => {
      const form = (await c.req.parseBody()) as Record<string, string>
      const found = codes.get(form['code'] ?? '')
      codes.delete(form['code'] ?? '')
      const hash = createHash('sha256')
        .update(form['code_verifier'] ?? '')
        .digest('base64url')
      const { query, sub } = found ?? { query: {} as Record<string, string>, sub: '' }
      const basic = `Basic ${btoa(`${query['client_id']}:${encodeURIComponent(CLIENT_SECRET)}`)}`
      if (
        c.req.header('authorization') !== basic ||
        form['grant_type'] !== 'authorization_code' ||
        form['redirect_uri'] !== query['redirect_uri'] ||
        hash !== query['code_challenge']
      )
        return c.json({ error: 'invalid_grant' }, 400)
      const iat = Math.floor(Date.now() / 1000)
      const claims = { iss: url, aud: query['client_id']!, sub, iat, exp: iat + 60 }
      const id_token = await new SignJWT({ ...claims, nonce: query['nonce']!, ...state.claims })
        .setProtectedHeader({ alg, kid: key.kid })
        .sign(key.privateKey)
      return c.json({ access_token: 'unused', token_type: 'Bearer', id_token })
    })
    .get('/keys', (c) => {
      state.keySets++
      return c.json({ keys: [key.jwk] })
    })
  const server = await listen(app as never)
  url = server.url
  return {
    url,
    state,
    close: server.close,
    async rotate() {
      key = await makeKey(`key-${Math.random()}`)
    },
    /** Signed with the issuer's key, unless told otherwise. */
    sign(claims: JWTPayload, header: object = {}, privateKey = key.privateKey) {
      return new SignJWT(claims)
        .setProtectedHeader({ alg, kid: key.kid, typ: 'JWT', ...header })
        .sign(privateKey as never)
    },
  }
}
export type LocalIssuer = Awaited<ReturnType<typeof startIssuer>>
