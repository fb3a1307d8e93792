import { join } from 'node:path'
import type { SignInConfig } from '@graft/registry/deps.ts'
import { parseSignIn } from '@graft/registry/identity/oidc/sign-in-config.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'

export interface ServerOptions {
  /** Holds everything: catalogue, blobs, ledger, keys. */
  stateDir: string
  host: string
  registryPort: number
  edgePort: number
  /** `iss` of the access tokens. */
  issuerName: string
  /** Where blobs lie instead of in the state's folder; null: there. */
  s3: { bucket: string; endpoint: string | null; region: string } | null
  /** C2SP verifier keys whose cosignatures the registry's log takes. */
  witnesses: string[]
  /** OpenID Connect issuers whose identity tokens the registry takes. */
  trustedIssuers: string[]
  /** Where people may sign in at the registry; null: by token alone. */
  signIn: SignInConfig | null
  /** Organisation whose administrators top up books. */
  operatorTenant: string
  /** Null: one is made and printed by the first start. */
  setupCode: string | null
  /** Private JWK as JSON; null: it is in `fleetKeyFile`. */
  fleetKey: string | null
  /** Made when absent; give a copy to every runner. */
  fleetKeyFile: string
  /** Milliseconds that calls under way get after SIGTERM. */
  drainMs: number
}

export const USAGE = `node infra/server.ts, configured by the environment:
  GRAFT_STATE           folder of everything that lasts            (default .graft/server)
  GRAFT_HOST            address to listen on                       (default 127.0.0.1)
  GRAFT_EDGE_PORT       (default 8787)
  GRAFT_REGISTRY_PORT   (default 8788)
  GRAFT_ISSUER          name in the tokens' iss, and the log's origin (default graft)
  GRAFT_S3_BUCKET       bucket for the blobs, with the usual AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; clients send
                        large files straight to it                 (default: files in the state)
  GRAFT_S3_ENDPOINT     of an S3 server that is not Amazon's, as clients reach it; buckets are in its path
  GRAFT_S3_REGION       (default us-east-1; R2: auto)
  GRAFT_WITNESSES       cosignature/v1 keys of the log's witnesses, separated by spaces
  GRAFT_TRUSTED_ISSUERS OpenID Connect issuers of CIs that may publish, separated by spaces
  GRAFT_SIGN_IN         OpenID Connect for people, as JSON: {"publicUrl": ..., "providers": [{"id", "name", "issuer",
                        "clientId", "clientSecret"}]}; register <publicUrl>/account/oidc/callback with the issuer
  GRAFT_OPERATOR        organisation that tops up books            (default operator)
  GRAFT_SETUP_CODE      one-time code of POST /v1/setup            (default: made and printed once)
  GRAFT_FLEET_KEY       private JWK shared with the runners, or
  GRAFT_FLEET_KEY_FILE  a file that holds it                       (default fleet-key.json in the state, made when absent)
  GRAFT_DRAIN_SECONDS   what calls under way get after SIGTERM     (default 25)
`

/** @throws ERR_REQUEST_INVALID naming the variable */
export function readOptions(env: NodeJS.ProcessEnv): ServerOptions {
  const text = (name: string, otherwise: string) => env[name] || otherwise
  const whole = (name: string, otherwise: number, most: number): number => {
    const given = text(name, String(otherwise))
    const value = Number(given)
    if (Number.isInteger(value) && value >= 0 && value <= most) return value
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      `${expected(name, `a whole number up to ${most}`, given)}; see node infra/server.ts --help`,
    )
  }
  const stateDir = text('GRAFT_STATE', join('.graft', 'server'))
  return {
    stateDir,
    host: text('GRAFT_HOST', '127.0.0.1'),
    edgePort: whole('GRAFT_EDGE_PORT', 8787, 65_535),
    registryPort: whole('GRAFT_REGISTRY_PORT', 8788, 65_535),
    issuerName: text('GRAFT_ISSUER', 'graft'),
    s3: readS3(env),
    witnesses: text('GRAFT_WITNESSES', '').split(/\s+/).filter(Boolean),
    trustedIssuers: text('GRAFT_TRUSTED_ISSUERS', '').split(/\s+/).filter(Boolean),
    signIn: env['GRAFT_SIGN_IN'] ? parseSignIn(env['GRAFT_SIGN_IN'], 'GRAFT_SIGN_IN') : null,
    operatorTenant: text('GRAFT_OPERATOR', 'operator'),
    setupCode: env['GRAFT_SETUP_CODE'] || null,
    fleetKey: env['GRAFT_FLEET_KEY'] || null,
    fleetKeyFile: text('GRAFT_FLEET_KEY_FILE', join(stateDir, 'fleet-key.json')),
    drainMs: whole('GRAFT_DRAIN_SECONDS', 25, 3600) * 1000,
  }
}

/** @throws ERR_REQUEST_INVALID when something of S3 is set and the bucket is not */
function readS3(env: NodeJS.ProcessEnv): ServerOptions['s3'] {
  const bucket = env['GRAFT_S3_BUCKET']
  const endpoint = env['GRAFT_S3_ENDPOINT'] || null
  const region = env['GRAFT_S3_REGION']
  if (bucket) return { bucket, endpoint, region: region || 'us-east-1' }
  if (endpoint === null && !region) return null
  throw new GraftError(
    'ERR_REQUEST_INVALID',
    `${expected('GRAFT_S3_BUCKET', "a bucket's name beside GRAFT_S3_ENDPOINT and GRAFT_S3_REGION", 'none')}; see node infra/server.ts --help`,
  )
}
