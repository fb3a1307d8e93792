import { GraftError } from './errors.ts'

const fail = (where: string, got: string): never => {
  throw new GraftError(
    'ERR_JSON_INVALID',
    `${where || 'the value'} must be JSON that RFC 8785 can write, got ${got}`,
  )
}

const text = (value: string, where: string): string =>
  value.isWellFormed() ? JSON.stringify(value) : fail(where, 'a string with an unpaired surrogate')

function write(value: unknown, where: string): string {
  if (value === null || typeof value === 'boolean') return String(value)
  if (typeof value === 'string') return text(value, where)
  // ECMAScript's Number::toString is what RFC 8785 section 3.2.2.3 prescribes; -0 becomes 0.
  if (typeof value === 'number')
    return Number.isFinite(value) ? String(value === 0 ? 0 : value) : fail(where, String(value))
  if (typeof value !== 'object') return fail(where, typeof value)
  if (Array.isArray(value))
    return `[${Array.from(value, (item, i) => write(item, `${where}[${i}]`)).join(',')}]`
  const prototype = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null)
    return fail(where, `an instance of ${prototype.constructor?.name ?? 'a class'}`)
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    // Code unit order (RFC 8785 section 3.2.3), which is what < on strings means.
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, member]) => `${text(key, where)}:${write(member, `${where}.${key}`)}`)
  return `{${members.join(',')}}`
}

/**
 * RFC 8785 (JCS): the one text of a JSON value. Undefined members are left out, as JSON.stringify does.
 * @throws ERR_JSON_INVALID for NaN, infinities, unpaired surrogates, bigint, undefined in arrays, class instances
 */
export const canonicalJson = (value: unknown): string => write(value, '')

export const canonicalBytes = (value: unknown): Uint8Array<ArrayBuffer> =>
  new TextEncoder().encode(canonicalJson(value)) as Uint8Array<ArrayBuffer>
