import { type ErrorCode, expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { Json } from '@graft/sdk/format/strict-json.ts'
import type { ConfigObject } from './source-format.ts'

/**
 * What an importer makes of a config key:
 * `inert` never reaches inference; `read` is used or checked by the importer;
 * a text: only an unset value (null, false, [], {}) is accepted, and the text says what to do otherwise.
 */
export type KeyRule = 'inert' | 'read' | { unset: string }
export type KeyTable = Readonly<Record<string, KeyRule>>

const isUnset = (value: Json): boolean =>
  value === null ||
  value === false ||
  (typeof value === 'object' && Object.keys(value as object).length === 0)

/**
 * Every key must be in the table: a key that is not understood may change the maths.
 * @throws ERR_CONFIG_UNKNOWN_KEY, ERR_METHOD_UNSUPPORTED
 */
export function checkKeys(config: ConfigObject, table: KeyTable, where: string): void {
  for (const [key, value] of Object.entries(config)) {
    const rule = Object.hasOwn(table, key) ? table[key] : undefined
    if (rule === undefined)
      throw new GraftError(
        'ERR_CONFIG_UNKNOWN_KEY',
        `${where}: key ${JSON.stringify(key)} is not known, so it may change what the adapter computes. Remove it if it does not, or upgrade the importer`,
      )
    if (typeof rule === 'object' && !isUnset(value))
      throw new GraftError(
        'ERR_METHOD_UNSUPPORTED',
        `${expected(`${where}: ${key}`, 'unset', value)}. ${rule.unset}`,
      )
  }
}

/** Keys of a table that say nothing about inference and are present: the importer's report lists them. */
export const inertKeys = (config: ConfigObject, table: KeyTable): string[] =>
  Object.keys(config).filter((key) => table[key] === 'inert')

/** Typed reads of a config's values. @throws ERR_CONFIG_INVALID */
export function readConfig(
  config: ConfigObject,
  where: string,
  code: ErrorCode = 'ERR_CONFIG_INVALID',
) {
  const value = (key: string): Json => config[key] ?? null
  const fail = (key: string, what: string): never => {
    throw new GraftError(code, expected(`${where}: ${key}`, what, config[key]))
  }
  const isStrings = (v: Json): v is string[] =>
    Array.isArray(v) && v.every((item) => typeof item === 'string')
  return {
    fail,
    boolean(key: string, fallback: boolean): boolean {
      const v = value(key)
      return v === null ? fallback : typeof v === 'boolean' ? v : fail(key, 'true or false')
    },
    number(key: string, fallback?: number): number {
      const v = value(key) ?? fallback
      return typeof v === 'number' ? v : fail(key, 'a number')
    },
    integer(key: string, least: number, fallback?: number): number {
      const v = value(key) ?? fallback
      return Number.isSafeInteger(v) && (v as number) >= least
        ? (v as number)
        : fail(key, `an integer >= ${least}`)
    },
    text(key: string, fallback?: string): string {
      const v = value(key) ?? fallback
      return typeof v === 'string' ? v : fail(key, 'a text')
    },
    /** A list of names; null where unset. */
    names(key: string): string[] | null {
      const v = value(key)
      return v === null ? null : isStrings(v) ? v : fail(key, 'a list of names')
    },
    /** A list of names, or one regular expression. */
    targets(key: string): string[] | string | null {
      const v = value(key)
      return v === null || typeof v === 'string' || isStrings(v)
        ? v
        : fail(key, 'names or a pattern')
    },
    /** An object of positive numbers, in the order of its keys. */
    numbers(key: string): [string, number][] {
      const v = value(key)
      if (v === null) return []
      if (typeof v !== 'object' || Array.isArray(v)) return fail(key, 'an object of numbers')
      return Object.entries(v).map(([name, n]) =>
        typeof n === 'number' ? [name, n] : fail(key, 'an object of numbers'),
      )
    },
    value,
  }
}
export type ConfigReader = ReturnType<typeof readConfig>
