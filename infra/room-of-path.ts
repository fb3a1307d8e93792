export type Room = 'registry' | 'edge'

/** First segments of the registry's paths, as @graft/sdk/protocol/registry-api.ts lists them. */
const REGISTRY_PATHS = [
  '/.well-known/jwks.json',
  '/account',
  '/bases',
  '/checkpoint',
  '/device',
  '/icon.svg',
  '/oauth',
  '/search',
  '/tile',
  '/v1/log',
  '/v1/setup',
  '/v1/whoami',
  '/v1/users',
  '/v1/orgs',
  '/v1/invitations',
  '/v1/tokens',
  '/v1/revocations',
  '/v1/bases',
  '/v1/publish',
  '/v1/packages',
  '/v1/resolve',
  '/v1/manifests',
  '/v1/blobs',
  '/v1/capabilities',
]

/** Which room answers a path where both share one address; every path that is not the registry's is the edge's. */
export function roomOfPath(path: string): Room {
  if (path === '/' || path.startsWith('/@')) return 'registry'
  const known = REGISTRY_PATHS.some((known) => path === known || path.startsWith(`${known}/`))
  return known ? 'registry' : 'edge'
}
