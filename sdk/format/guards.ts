import { type ErrorCode, expected, GraftError } from './errors.ts'

export type Fields = { readonly [key: string]: unknown }

/** Checks on values that came from outside; each returns its argument, typed, or throws `code` naming the place. */
export function createGuards(code: ErrorCode) {
  const fail = (where: string, what: string, got: unknown): never => {
    throw new GraftError(code, expected(where, what, got))
  }
  const isObject = (value: unknown): value is Fields =>
    typeof value === 'object' && value !== null && !Array.isArray(value)

  return {
    fail,
    object: (value: unknown, where: string): Fields =>
      isObject(value) ? value : fail(where, 'an object', value),
    /** An object with these members and no others; a name that ends in "?" may be absent. */
    exactly: (value: unknown, where: string, names: readonly string[]): Fields => {
      const object = isObject(value) ? value : fail(where, 'an object', value)
      for (const name of names)
        if (!name.endsWith('?') && !Object.hasOwn(object, name))
          fail(`${where}.${name}`, 'present', undefined)
      for (const key of Object.keys(object))
        if (!names.includes(key) && !names.includes(`${key}?`))
          fail(where, `made of ${names.join(', ')}`, key)
      return object
    },
    string: (value: unknown, where: string): string =>
      typeof value === 'string' && value !== '' ? value : fail(where, 'a text', value),
    text: (value: unknown, where: string): string =>
      typeof value === 'string' ? value : fail(where, 'a string', value),
    list: (value: unknown, where: string): readonly unknown[] =>
      Array.isArray(value) ? value : fail(where, 'a list', value),
    boolean: (value: unknown, where: string): boolean =>
      typeof value === 'boolean' ? value : fail(where, 'true or false', value),
    integer: (value: unknown, where: string, least: number): number =>
      Number.isSafeInteger(value) && (value as number) >= least
        ? (value as number)
        : fail(where, `an integer >= ${least}`, value),
    oneOf: <T extends string>(value: unknown, where: string, values: readonly T[]): T =>
      values.includes(value as T)
        ? (value as T)
        : fail(where, `one of ${values.join(', ')}`, value),
  }
}
