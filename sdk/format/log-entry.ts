import { canonicalJson } from './canonical-json.ts'

/** What is written down about packages. */
export const PACKAGE_EVENTS = [
  'version.publish',
  'version.yank',
  'version.unyank',
  'version.deprecate',
  'version.undeprecate',
  'version.tombstone',
  'tag.move',
  'tag.remove',
  'package.visibility',
] as const
/** What is written down about publishers. */
export const KEY_EVENTS = ['key.add', 'key.rotate', 'key.revoke'] as const

export interface PackageEvent {
  kind: (typeof PACKAGE_EVENTS)[number]
  /** `@scope/name`. */
  package: string
  /** Then the log shows name and facts as salted hashes only. */
  private: boolean
  /** `version` and `digest` of the version it is about, a tag's name, a reason. */
  facts: Readonly<Record<string, string>>
}

export interface KeyEvent {
  kind: (typeof KEY_EVENTS)[number]
  org: string
  /** `kid` of the key. */
  facts: Readonly<Record<string, string>>
}

export type LogEvent = PackageEvent | KeyEvent

/** HMAC-SHA256 under the package's salt: a commitment that whoever has the salt can check, and nobody can guess. */
async function commitment(salt: Uint8Array, text: string): Promise<string> {
  const algorithm = { name: 'HMAC', hash: 'SHA-256' }
  const raw = salt as Uint8Array<ArrayBuffer>
  const key = await crypto.subtle.importKey('raw', raw, algorithm, false, ['sign'])
  const sum = await crypto.subtle.sign('HMAC', key, new TextEncoder().encode(text))
  const hex = Array.from(new Uint8Array(sum), (byte) => byte.toString(16).padStart(2, '0'))
  return `hmac-sha256:${hex.join('')}`
}

/**
 * The bytes of a log entry, as text: canonical JSON (RFC 8785), so that whoever knows the event and its time can say them.
 * @param at ISO 8601, when it was logged
 * @param salt 32 bytes, of the package; used when the event is private
 */
export async function logEntry(event: LogEvent, at: string, salt: Uint8Array): Promise<string> {
  const { kind, facts } = event
  if ('org' in event) return canonicalJson({ at, kind, org: event.org, facts: { ...facts } })
  if (!event.private)
    return canonicalJson({ at, kind, package: event.package, facts: { ...facts } })
  return canonicalJson({
    at,
    kind,
    package: await commitment(salt, `package\n${event.package}`),
    // With the time inside, the same facts at another time are another hash.
    facts: await commitment(salt, `facts\n${canonicalJson({ at, kind, ...facts })}`),
  })
}
