import { Hono } from 'hono'
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose'
import { listen } from '../edge/helpers/listen.ts'

/** An OpenID Connect issuer on this machine, as a CI's: discovery, keys, and whatever token a test wants signed. */
export async function startIssuer(alg = 'RS256') {
  const makeKey = async (kid: string) => {
    const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
    return { kid, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } }
  }
  let key = await makeKey('first')
  const state = { keySets: 0, down: false, discovery: {} as object }
  let url = ''
  const app = new Hono()
    .use(async (c, next) => (state.down ? c.text('down', 503) : next()))
    .get('/.well-known/openid-configuration', (c) =>
      c.json({ issuer: url, jwks_uri: `${url}/keys`, ...state.discovery }),
    )
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
