import { type Digest, sha256 } from '@graft/sdk/format/digest.ts'
import { generateSigningKey, type SigningKey, signJwt } from '@graft/sdk/format/jws.ts'
import type { AccessClaims, Scope } from '@graft/sdk/protocol/tokens.ts'

export const ISSUER = 'https://registry.test'

export interface KnownAdapter {
  name: string
  version: string
  digest: Digest
  base: { name: string; digest: Digest }
  /** null = everybody. */
  readers: string[] | null
}

/** What the edge asks a registry, answered from a list: tokens are signed, private packages are unknown to others. */
export interface RegistryOfTests {
  fetch: typeof fetch
  adapters: KnownAdapter[]
  revoked: string[]
  epochs: Record<string, number>
  /** Paths asked, with the tenant that asked. */
  asked: string[]
  down: boolean
  token(options?: {
    tenant?: string
    scopes?: Scope[]
    expiresIn?: number
    jti?: string
    epoch?: number
    iss?: string
    key?: SigningKey
  }): Promise<string>
}

export async function createRegistryOfTests(): Promise<RegistryOfTests> {
  const key = await generateSigningKey()
  const state: RegistryOfTests = {
    adapters: [],
    revoked: [],
    epochs: {},
    asked: [],
    down: false,
    async token(options = {}) {
      const iat = Math.floor(Date.now() / 1000)
      const claims: AccessClaims = {
        iss: options.iss ?? ISSUER,
        sub: 'user:ada',
        tenant: options.tenant ?? 'acme',
        scopes: options.scopes ?? ['infer'],
        jti: options.jti ?? `jti-${options.tenant ?? 'acme'}`,
        epoch: options.epoch ?? 0,
        iat,
        exp: iat + (options.expiresIn ?? 600),
      }
      return signJwt(claims, 'graft-access+jwt', options.key ?? key)
    },
    async fetch(input, init) {
      const url = new URL(input instanceof Request ? input.url : input)
      if (state.down) throw new TypeError('fetch failed')
      if (url.pathname === '/.well-known/jwks.json') return Response.json({ keys: [key.publicJwk] })
      if (url.pathname === '/v1/revocations')
        return Response.json({ tokens: state.revoked, epochs: state.epochs })
      const tenant = tenantOf(new Headers(init?.headers).get('authorization'))
      state.asked.push(`${tenant} ${url.pathname}${url.search}`)
      const readable = state.adapters.filter((a) => !a.readers || a.readers.includes(tenant))
      if (url.pathname === '/v1/packages')
        return Response.json({
          packages: readable.map((a) => ({
            name: a.name,
            description: '',
            visibility: a.readers ? 'private' : 'public',
            latest: a.version,
            base: a.base,
          })),
        })
      if (url.pathname === '/v1/capabilities')
        return Response.json({
          token: `capability-of-${tenant}`,
          expiresAt: new Date(Date.now() + 600_000).toISOString(),
        })
      const ref = url.searchParams.get('ref')!
      const found = readable.find((a) => ref === a.name || ref.startsWith(`${a.name}@`))
      if (!found)
        return Response.json(
          { error: { code: 'ERR_PACKAGE_UNKNOWN', message: `there is no package ${ref}` } },
          { status: 404 },
        )
      const { readers, ...facts } = found
      return Response.json({
        ...facts,
        ref,
        operations: ['low_rank'],
        size: 10,
        visibility: readers ? 'private' : 'public',
        skipped: [],
      })
    },
  }
  return state
}

const tenantOf = (header: string | null): string => {
  const payload = header?.split('.')[1] ?? 'e30'
  return String(JSON.parse(Buffer.from(payload, 'base64url').toString()).tenant)
}

export const digestOf = (text: string): Promise<Digest> => sha256(text)
