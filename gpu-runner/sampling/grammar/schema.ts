/** A JSON Schema, draft 2020-12, as it was sent. */
export type Schema = Record<string, unknown>

/** Keywords that are kept, by the type that they are about. */
export const BY_TYPE = {
  string: ['minLength', 'maxLength', 'format'],
  integer: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
  boolean: [],
  null: [],
  array: ['items', 'prefixItems', 'minItems', 'maxItems'],
  object: ['properties', 'required', 'additionalProperties'],
} as const
export type TypeName = keyof typeof BY_TYPE

export const isObject = (value: unknown): value is Schema =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Which type a JSON value has; integers are told apart. */
export function typeOf(value: unknown): TypeName {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'array'
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number'
  return typeof value as TypeName
}

export const matches = (value: unknown, type: TypeName): boolean =>
  typeOf(value) === type || (type === 'number' && typeOf(value) === 'integer')

/** The values of `const` or `enum`; null when there are none. */
export function literalsOf(schema: Schema): unknown[] | null {
  if ('const' in schema) return [schema['const']]
  const values = schema['enum']
  return Array.isArray(values) && values.length > 0 ? values : null
}

/** What a pointer of the form `#/a/b` names; undefined when there is nothing. */
export function resolvePointer(root: Schema, pointer: string): unknown {
  let target: unknown = root
  for (const part of pointer.split('/').slice(1)) {
    const key = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~')
    target = isObject(target) && Object.hasOwn(target, key) ? target[key] : undefined
  }
  return target
}
