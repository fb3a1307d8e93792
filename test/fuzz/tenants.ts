import type { Digest } from '@graft/sdk/format/digest.ts'
import type { SigningKey } from '@graft/sdk/format/jws.ts'
import type { PublishRequest } from '@graft/sdk/protocol/registry-api.ts'
import type { Scope } from '@graft/sdk/protocol/tokens.ts'
import {
  type Adapter,
  adapter,
  type Call,
  type House,
  publish,
  publishRequest,
} from '../registry/fixtures.ts'

export interface Tenant {
  org: string
  user: string
  key: SigningKey
  /** Of its owner, with every scope. */
  token: string
  /** Of the same owner, each with one scope. */
  narrow: string[]
  /** For its private package's manifest. */
  capability: string
  privately: Adapter
  publicly: Adapter
  /** What its open upload is of. */
  opened: Adapter
  /** Ids of its open upload, its invitation and its token. */
  upload: string
  invitation: string
  jti: string
  /** What it would send to publish its next version. */
  request: PublishRequest
  /** Its owner's browser, and the code that a program shows them. */
  session: { cookie: string; formKey: string }
  login: { userCode: string; deviceCode: string }
}

export const WORD = 'quokka'

/** A word of its private descriptions that no request ever says. */
export const unsaidOf = (org: string): string => `, numbat-${org}`

/** A new organisation with a private and a public package, an upload under way and everything else that has an id. */
export async function openTenant(house: House, org: string, seed: number): Promise<Tenant> {
  const { call, base } = house
  const user = `${org}-owner`
  const { token, key } = await house.newcomer(user, org)
  const ask = async (method: string, path: string, json: unknown) => {
    const answer = await call(method, path, { token, json })
    if (answer.status !== 200) throw new Error(`${path}: ${JSON.stringify(answer.body)}`)
    return answer.body
  }
  const make = (name: string, at: number, version = '1.0.0') =>
    adapter({
      base,
      name: `@${org}/${name}`,
      version,
      seed: seed + at,
      withGoldens: true,
      fields: {
        description: `${WORD} of ${org}-${name}${name === 'hidden' ? unsaidOf(org) : ''}`,
        keywords: [`${org}-${name}`],
      },
    })
  const out = async (what: Adapter, visibility: 'public' | 'private') => {
    const answer = await publish(call, token, what, await publishRequest(what, key, { visibility }))
    if (answer.status !== 200) throw new Error(`publish: ${JSON.stringify(answer.body)}`)
    return what
  }
  const privately = await out(await make('hidden', 1), 'private')
  const publicly = await out(await make('shown', 20), 'public')
  const opened = await make('hidden', 40, '1.1.0')
  const started = await publishRequest(opened, key, { visibility: 'private' })
  const open = await ask('POST', '/v1/publish', started)
  // One file is there already: the last makes it complete.
  const [first] = opened.files
  await call('PUT', `/v1/publish/${open.id}/blobs/${first![0]}`, { token, body: first![1] })
  const next = await make('hidden', 60, '1.2.0')
  const tokenFor = (scope: Scope) =>
    ask('POST', '/v1/tokens', { org, name: 'fuzz', scopes: [scope], expiresIn: 3600 })
  const narrow = [await tokenFor('read'), await tokenFor('infer'), await tokenFor('publish')]
  const spare = await tokenFor('read')
  const invited = await ask('POST', `/v1/orgs/${org}/invitations`, {
    role: 'reader',
    expiresIn: 600,
  })
  const { token: capability } = await ask('POST', '/v1/capabilities', {
    manifest: privately.digest,
  })
  return {
    ...{ org, user, key, token, capability, privately, publicly, opened },
    narrow: narrow.map((made) => made.token),
    ...{ upload: open.id, invitation: invited.id, jti: spare.jti },
    request: await publishRequest(next, key, { visibility: 'private' }),
    session: await signIn(call, token),
    login: await startLogin(call),
  }
}

const form = (fields: Record<string, string>) => ({
  headers: { 'content-type': 'application/x-www-form-urlencoded' },
  body: new TextEncoder().encode(new URLSearchParams(fields).toString()),
})

async function signIn(call: Call, token: string): Promise<Tenant['session']> {
  const signed = await call('POST', '/account/sign-in', form({ token, next: '/device' }))
  const cookie = signed.headers.get('set-cookie')?.split(';')[0] ?? ''
  const page = new TextDecoder().decode(
    (await call('GET', '/device', { headers: { cookie } })).body,
  )
  const formKey = /name="form_key" value="([^"]+)"/.exec(page)?.[1]
  if (formKey === undefined) throw new Error(`sign-in: ${signed.status}`)
  return { cookie, formKey }
}

async function startLogin(call: Call): Promise<Tenant['login']> {
  const path = '/oauth/device_authorization'
  const { body } = await call('POST', path, form({ client_id: 'graft-cli', scope: 'read' }))
  return { userCode: body.user_code, deviceCode: body.device_code }
}

/** What nobody else may ever be told, each with something that is just as long and does not exist. */
export function secretsOf({ org, privately, opened, upload, invitation, jti, request }: Tenant) {
  const absent = (digest: Digest): string => `sha256:${[...digest.slice(7)].reverse().join('')}`
  const digests = [
    privately.digest,
    opened.digest,
    ...opened.files.keys(),
    ...privately.files.keys(),
    ...request.blobs.map((b) => b.digest),
  ]
  // Of the same kind at each place, so that no grammar tells them apart.
  const other = (id: string) => id.replaceAll(/[1-9a-f]/g, (h) => OTHER[h]!)
  const pairs: [string, string][] = [
    [`${org}/hidden`, `${org}/absent`],
    [`${org}-hidden`, `${org}-absent`],
    ...digests.map((digest): [string, string] => [digest, absent(digest)]),
    ...[upload, invitation, jti].map((id): [string, string] => [id, other(id)]),
  ]
  return new Map(pairs)
}
const turned = (all: string) => [...all].map((one, i) => [one, all[(i + 3) % all.length]!])
const OTHER: Record<string, string> = Object.fromEntries([
  ...turned('123456789'),
  ...turned('abcdef'),
])

/** Runs of its private files' bytes, as text of one byte a character. */
export const bytesOf = ({ privately }: Tenant): string[] =>
  [...privately.files.values()].flatMap((bytes) =>
    // From the end, where the weights are: headers are alike.
    [12, 40].map((at) => String.fromCharCode(...bytes.subarray(-at).subarray(0, 12))),
  )
