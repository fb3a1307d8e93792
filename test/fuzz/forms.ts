import type { BaseRecord } from '@graft/sdk/protocol/registry-api.ts'
import { TEXTS } from './hostile.ts'
import type { Random } from './random.ts'
import type { Tenant } from './tenants.ts'

/** Those whose names, digests and ids stand in requests. `base` is a registered one. */
export interface World {
  victim: Tenant
  attacker: Tenant
  base: BaseRecord
  /** A token that may create users. */
  operator: string
}

/** Values that mean something, by the name of the parameter or field that they are for. */
export function meaningful({
  victim,
  attacker,
  base: { digest: base },
}: World): Record<string, readonly string[]> {
  const both = [victim, attacker]
  const orgs = both.map((tenant) => tenant.org)
  const digests = both.flatMap((t) =>
    [t.privately, t.publicly, t.opened].flatMap((made) => [made.digest, ...made.files.keys()]),
  )
  const names = both.flatMap(({ org }) => [`@${org}/hidden`, `@${org}/shown`])
  const next = both.flatMap((tenant) => tenant.request.blobs.map((blob) => blob.digest))
  const ids = both.flatMap(({ upload, invitation, jti }) => [upload, invitation, jti])
  const versions = ['1.0.0', '1.1.0', '1.2.0']
  return {
    org: orgs,
    scope: orgs.map((org) => `@${org}`),
    name: ['hidden', 'shown', 'hidden', 'shown', 'tiny-base', 'absent'],
    version: versions,
    from: [...versions, '0', '5'],
    tag: ['latest', 'next'],
    digest: [...Array(4).fill(digests.slice(0, 3)).flat(), ...digests, ...next, base],
    manifest: both.flatMap((t) => [t.privately.digest, t.publicly.digest]),
    base: [base],
    structure: [base],
    user: ['ada', ...both.map((tenant) => tenant.user)],
    id: [...both.flatMap(({ upload }) => [upload, upload, upload]), ...ids],
    upload: both.map((tenant) => tenant.upload),
    uploaded: both.flatMap((tenant) => [...tenant.opened.files.keys()]),
    fresh: Array.from({ length: 999 }, (_, i) => `fresh-${i}`),
    jti: both.map((tenant) => tenant.jti),
    after: ids,
    number: ['1', '2', '3'],
    path: ['0/000', '0/000.p/9', 'entries/000.p/3', '1/000', '8/000'],
    ref: names.flatMap((name) => [name, `${name}@^1`, `${name}@latest`, `${name}@${digests[0]}`]),
    operations: ['low_rank', 'low_rank,scale'],
    licences: ['Apache-2.0', 'MIT,Apache-2.0'],
    maxRank: ['2', '64'],
    minReleaseAge: ['0', '86400'],
    limit: ['1', '100'],
    q: ['quokka', 'hidden', `${victim.org}-hidden`, ...names],
    keyword: [`${victim.org}-hidden`, `${attacker.org}-shown`],
    method: ['lora', 'ia3'],
    sort: ['updated', 'name'],
    cursor: [Buffer.from(JSON.stringify(['2026-01-01', names[0]])).toString('base64url')],
    next: ['/device', '//evil.example', '/\\evil.example'],
    user_code: both.map((tenant) => tenant.login.userCode),
    device_code: both.map((tenant) => tenant.login.deviceCode),
  }
}

/** Of that name, mostly; else of another, or nothing that anybody would send. */
export function valueFor(
  random: Random,
  known: Record<string, readonly string[]>,
  name: string,
  mostly = 0.75,
): string {
  const own = known[name]
  if (own !== undefined && random.chance(mostly)) return random.pick(own)
  return random.chance(0.4) ? random.pick(random.pick(Object.values(known))) : random.pick(TEXTS)
}

/** Bodies that would be taken, by route. A route that is not here is sent fields of all the others. */
export function bodies(
  { attacker, victim, base }: World,
  value: (name: string) => string,
): Record<string, () => unknown> {
  const { key, org } = attacker
  return {
    'POST /v1/setup': () => ({ code: 'let-me-in', user: 'mallory', org: 'mallory' }),
    'POST /v1/users': () => ({ user: value('fresh'), org: value('fresh') }),
    'POST /v1/orgs': () => ({ name: value('fresh') }),
    'POST /v1/tokens': () => ({ org, name: 'a name', scopes: ['read'], expiresIn: 60 }),
    'POST /v1/orgs/:org/keys': () => ({ jwk: key.publicJwk }),
    'POST /v1/orgs/:org/members': () => ({ user: value('user'), role: 'reader' }),
    'POST /v1/orgs/:org/invitations': () => ({ role: 'reader', expiresIn: 60 }),
    'POST /v1/invitations/accept': () => ({ code: value('id') }),
    'POST /v1/bases': () => base,
    'POST /v1/publish': () => (value('org') === org ? attacker.request : victim.request),
    'POST /v1/capabilities': () => ({ manifest: value('manifest') }),
    'PUT /v1/packages/:scope/:name/tags/:tag': () => ({ version: value('version') }),
    'PUT /v1/packages/:scope/:name/versions/:version/yank': () => ({ reason: 'a reason' }),
    'PUT /v1/packages/:scope/:name/versions/:version/deprecation': () => ({ message: 'a message' }),
    'PUT /v1/packages/:scope/:name/versions/:version/tombstone': () => ({ reason: 'a reason' }),
  }
}

/** Fields of application/x-www-form-urlencoded, by route. */
export const forms = (
  { attacker }: World,
  value: (name: string) => string,
): Record<string, () => Record<string, string>> => {
  const signed = { form_key: attacker.session.formKey }
  return {
    'POST /oauth/device_authorization': () => ({ client_id: 'graft-cli', scope: 'read infer' }),
    'POST /oauth/token': () => ({
      grant_type: 'urn:ietf:params:oauth:grant-type:device_code',
      client_id: 'graft-cli',
      device_code: value('device_code'),
    }),
    'POST /account/sign-in': () => ({ token: attacker.token, next: value('next') }),
    'POST /account/sign-out': () => signed,
    'POST /device/code': () => ({ ...signed, user_code: value('user_code') }),
    'POST /device': () => ({
      ...signed,
      user_code: value('user_code'),
      decision: 'allow',
      org: value('org'),
    }),
  }
}
