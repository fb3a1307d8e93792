import { type Digest, isDigest } from '../format/digest.ts'
import { expected, GraftError } from '../format/errors.ts'
import { isPackageName } from '../format/parse-reference.ts'
import type { AdapterReference } from '../format/reference.ts'
import { isVersion } from '../format/semver.ts'
import { type Json, parseStrictJson } from '../format/strict-json.ts'
import { MAX_NOTE_LENGTH } from '../format/tlog/signed-note.ts'
import type { Resolution } from '../protocol/registry-api.ts'
import type { LogMemory } from './verify-log.ts'

export const LOCK_FILE = 'graft.lock'
export const LOCK_VERSION = 1

export interface LockedAdapter {
  /** What was asked for: a range, a tag or a digest. */
  wanted: string
  version: string
  /** Of the signed manifest, which names every byte. */
  digest: Digest
  base: { name: string; digest: Digest }
}

export interface LockedRegistry {
  url: string
  /** Its log as it was last seen: whoever installs from this lock notices a rollback or a split view since. */
  log?: LogMemory
}

/** graft.lock: which bytes each name means here, and where each scope comes from. */
export interface Lock {
  /** By scope (`@acme`): one registry each, so that nobody else's can slip in a package of that name. */
  registries: Record<string, LockedRegistry>
  /** By `@scope/name`. */
  adapters: Record<string, LockedAdapter>
}

export const EMPTY_LOCK: Lock = { registries: {}, adapters: {} }

/** `@acme/sql` -> `@acme`. */
export const scopeOf = (name: string): string => name.slice(0, name.indexOf('/'))

/** What stands after the name: `^1.2`, `latest`, `sha256:...`. */
export const wantedOf = ({ selector }: AdapterReference): string =>
  selector.kind === 'range'
    ? selector.range
    : selector.kind === 'tag'
      ? selector.tag
      : selector.digest

const byName = <T>(rows: Record<string, T>, copy: (row: T) => T): Record<string, T> =>
  Object.fromEntries(
    Object.entries(rows)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, row]) => [name, copy(row)]),
  )

/** The same lock is always the same bytes: names sorted, members in one order, a line each. */
export function formatLock({ registries, adapters }: Lock): string {
  const whole = {
    lockVersion: LOCK_VERSION,
    registries: byName(registries, ({ url, log }) => ({
      url,
      ...(log ? { log: { key: log.key, checkpoint: log.checkpoint } } : {}),
    })),
    adapters: byName(adapters, ({ wanted, version, digest, base }) => ({
      ...{ wanted, version, digest },
      base: { name: base.name, digest: base.digest },
    })),
  }
  return `${JSON.stringify(whole, null, 2)}\n`
}

/** Members of an object, each known and of its type. */
type Fields = Record<string, (value: Json | undefined, where: string) => unknown>

const invalid = (where: string, what: string, got: unknown): GraftError =>
  new GraftError('ERR_REQUEST_INVALID', `${LOCK_FILE}: ${expected(where, what, got)}`)

function objectOf(value: Json | undefined, where: string): Record<string, Json> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  throw invalid(where, 'an object', value)
}

function parseFields<T>(value: Json | undefined, where: string, fields: Fields): T {
  const object = objectOf(value, where)
  const strange = Object.keys(object).find((key) => !Object.hasOwn(fields, key))
  if (strange !== undefined)
    throw invalid(where, `of ${Object.keys(fields).join(', ')} and nothing else`, strange)
  const members = Object.entries(fields).map(([key, parse]) => [
    key,
    parse(object[key], `${where}.${key}`),
  ])
  return Object.fromEntries(members.filter(([, member]) => member !== undefined)) as T
}

const text =
  (what: string, is: (text: string) => boolean) =>
  (value: Json | undefined, where: string): string => {
    if (typeof value === 'string' && is(value)) return value
    throw invalid(where, what, value)
  }

const some = text('a text', (value) => value !== '' && value.length <= 512)
const digest = text('"sha256:" and 64 hex digits', isDigest)
const note = text('a signed note', (value) => value !== '' && value.length <= MAX_NOTE_LENGTH)

const LOG: Fields = { key: some, checkpoint: note }
const REGISTRY: Fields = {
  url: text('an http or https URL', (value) => /^https?:/.test(value) && URL.canParse(value)),
  log: (value, where) => (value === undefined ? undefined : parseFields(value, where, LOG)),
}
const BASE: Fields = { name: some, digest }
const ADAPTER: Fields = {
  wanted: some,
  version: text('x.y.z', isVersion),
  digest,
  base: (value, where) => parseFields(value, where, BASE),
}

function parseRows<T>(value: Json | undefined, where: string, fields: Fields): Record<string, T> {
  const rows = Object.entries(objectOf(value, where))
  return Object.fromEntries(
    rows.map(([name, row]) => [name, parseFields<T>(row, `${where}["${name}"]`, fields)]),
  )
}

/** @throws ERR_JSON_INVALID, ERR_REQUEST_INVALID that name what is wrong */
export function parseLock(bytes: Uint8Array): Lock {
  const { lockVersion, registries, adapters, ...rest } = objectOf(
    parseStrictJson(bytes, LOCK_FILE, 'ERR_JSON_INVALID'),
    'it',
  )
  if (lockVersion !== LOCK_VERSION)
    throw invalid('lockVersion', `${LOCK_VERSION}; a newer graft may have written it`, lockVersion)
  const [strange] = Object.keys(rest)
  if (strange !== undefined)
    throw invalid('it', 'of lockVersion, registries, adapters and nothing else', strange)
  const lock: Lock = {
    registries: parseRows(registries, 'registries', REGISTRY),
    adapters: parseRows(adapters, 'adapters', ADAPTER),
  }
  for (const name of Object.keys(lock.adapters)) {
    if (!isPackageName(name)) throw invalid('adapters', 'by @scope/name', name)
    if (!Object.hasOwn(lock.registries, scopeOf(name)))
      throw invalid('registries', `to say where ${scopeOf(name)} of ${name} comes from`, undefined)
  }
  return lock
}

/**
 * The registry that a scope is bound to; an unbound one is bound to `url`.
 * @throws ERR_REQUEST_INVALID when it is bound to another
 */
export function bindScope(lock: Lock, scope: string, url: string): Lock {
  const bound = Object.hasOwn(lock.registries, scope) ? lock.registries[scope]!.url : null
  if (bound === url) return lock
  if (bound === null) return { ...lock, registries: { ...lock.registries, [scope]: { url } } }
  throw new GraftError(
    'ERR_REQUEST_INVALID',
    `${LOCK_FILE} binds ${scope} to ${bound}, and this asks ${url}; use --registry ${bound}, or take the scope out of ${LOCK_FILE} if it really moved`,
  )
}

/** The lock with what a registry answered to `wanted`. */
export const lockAdapter = (lock: Lock, wanted: string, found: Resolution): Lock => ({
  ...lock,
  adapters: {
    ...lock.adapters,
    [found.name]: {
      wanted,
      version: found.version,
      digest: found.digest,
      base: { name: found.base.name, digest: found.base.digest },
    },
  },
})

/** What was seen of the log of the registry at `url`; null when nothing was. */
export const logAt = ({ registries }: Lock, url: string): LogMemory | null =>
  Object.values(registries).find((row) => row.url === url && row.log)?.log ?? null

/** The lock with what was seen of each registry's log, by URL. */
export const lockLogs = (lock: Lock, logs: ReadonlyMap<string, LogMemory>): Lock => ({
  ...lock,
  registries: Object.fromEntries(
    Object.entries(lock.registries).map(([scope, row]) => {
      const log = logs.get(row.url)
      return [scope, log ? { url: row.url, log } : row]
    }),
  ),
})

/** Whether two locks mean the same bytes, whatever was seen of logs. */
export const isSameLock = (a: Lock, b: Lock): boolean => {
  const bare = ({ registries, adapters }: Lock) =>
    formatLock({ adapters, registries: byName(registries, ({ url }) => ({ url })) })
  return bare(a) === bare(b)
}

/** Where an answer about a locked digest says something else than the lock, in words. */
export function driftOf(name: string, locked: LockedAdapter, found: Resolution): string[] {
  const differs = (what: string, here: string, there: string): string[] =>
    here === there ? [] : [`${name}: ${what} is ${here} in ${LOCK_FILE} and ${there} there`]
  return [
    ...differs('the package', name, found.name),
    ...differs('the version', locked.version, found.version),
    ...differs('the digest', locked.digest, found.digest),
    ...differs('the base', locked.base.digest, found.base.digest),
  ]
}

/** Where references say something else than the lock, in words. */
export function askedDrift(lock: Lock, asked: readonly AdapterReference[]): string[] {
  return asked.flatMap((reference) => {
    const { package: name } = reference
    const locked = Object.hasOwn(lock.adapters, name) ? lock.adapters[name] : undefined
    const wanted = wantedOf(reference)
    if (locked === undefined) return [`${name}: not in ${LOCK_FILE}`]
    return locked.wanted === wanted
      ? []
      : [`${name}: ${LOCK_FILE} was made for ${locked.wanted}, and ${wanted} is asked for`]
  })
}
