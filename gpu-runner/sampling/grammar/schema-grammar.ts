import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { areApart } from './branches.ts'
import {
  any,
  type Expression,
  isLeftRecursive,
  isProductive,
  type Rules,
  rule,
  seq,
  toEbnf,
} from './expression.ts'
import { FORMATS } from './formats.ts'
import { INTEGER, jsonRules, listOf, NUMBER, OBJECT, VALUE, WS } from './json-terminals.ts'
import { itemsOf, pairsOf } from './members.ts'
import { type Bounds, integersWithin, MAX_INTEGER, numbersWithin } from './number-ranges.ts'
import {
  BY_TYPE,
  isObject,
  literalsOf,
  matches,
  resolvePointer,
  type Schema,
  type TypeName,
} from './schema.ts'
import { countedString, MAX_COUNTED, otherName } from './strings.ts'

/** Says something about a value, asks nothing of it. */
const ANNOTATIONS = [
  '$schema',
  '$comment',
  'title',
  'description',
  'default',
  'examples',
  'deprecated',
  'readOnly',
  'writeOnly',
]
const DEFINITIONS = ['$defs', 'definitions']
/** Each costs the compiler states. */
const MAX_ITEMS = 1024
/** What one schema may ask of the compiler. */
const MAX_NODES = 5_000
const MAX_TEXT = 200_000

const refuse = (path: string, message: string): GraftError =>
  new GraftError('ERR_REQUEST_INVALID', `response_format: ${path}: ${message}`)

class Converter {
  readonly rules = jsonRules()
  readonly #root: Schema
  #nodes = 0

  constructor(root: Schema) {
    this.#root = root
  }

  /** Refuses by name what is not understood: a constraint that is left out would be one that is not kept. */
  #only(schema: Schema, path: string, allowed: readonly string[], beside = ''): void {
    for (const key of Object.keys(schema))
      if (![...ANNOTATIONS, ...DEFINITIONS, ...allowed].includes(key))
        throw refuse(path, `keyword "${key}" is not supported${beside}`)
  }

  value(schema: unknown, path: string): Expression {
    if (++this.#nodes > MAX_NODES) throw refuse(path, `the schema has more than ${MAX_NODES} parts`)
    if (schema === true) return VALUE
    if (schema === false) throw refuse(path, 'false is a schema that no value meets')
    if (!isObject(schema)) throw refuse(path, expected('a schema', 'an object or true', schema))
    if ('$ref' in schema) {
      this.#only(schema, path, ['$ref'], ' beside "$ref"')
      return this.#reference(schema['$ref'], path)
    }
    for (const key of ['anyOf', 'oneOf', 'allOf'] as const)
      if (key in schema) {
        this.#only(schema, path, [key], ` beside "${key}"`)
        return this.#combined(key, schema[key], path)
      }
    if ('enum' in schema || 'const' in schema) return this.#literal(schema, path)
    return this.#typed(schema, path)
  }

  #reference(ref: unknown, path: string): Expression {
    if (typeof ref !== 'string' || !/^#($|\/)/.test(ref))
      throw refuse(path, expected('"$ref"', 'a pointer into this schema, "#/$defs/..."', ref))
    const name = `ref_${Buffer.from(ref).toString('hex')}`
    if (this.rules.has(name)) return rule(name)
    const target = resolvePointer(this.#root, ref)
    if (target === undefined) throw refuse(path, `"$ref" names ${ref}, and there is nothing there`)
    // Set before its parts, so that it may name itself.
    this.rules.set(name, '')
    this.rules.set(name, this.value(target, ref))
    return rule(name)
  }

  #combined(key: 'anyOf' | 'oneOf' | 'allOf', branches: unknown, path: string): Expression {
    if (!Array.isArray(branches) || branches.length === 0)
      throw refuse(path, expected(`"${key}"`, 'a list of schemas', branches))
    if (key === 'allOf' && branches.length > 1)
      throw refuse(path, '"allOf" of several schemas is not supported; write them as one')
    if (key === 'oneOf' && !areApart(branches, this.#root))
      throw refuse(
        path,
        '"oneOf" needs branches of different types, or objects with a required property whose "const" tells them apart; "anyOf" needs neither',
      )
    return any(...branches.map((branch, i) => this.value(branch, `${path}/${key}/${i}`)))
  }

  #literal(schema: Schema, path: string): Expression {
    this.#only(schema, path, ['enum', 'const', 'type'], ' beside "enum" or "const"')
    const types = 'type' in schema ? this.#types(schema['type'], path) : null
    const listed = literalsOf(schema)
    if (!listed) throw refuse(path, expected('"enum"', 'a list of values', schema['enum']))
    const values = listed.filter((value) => !types || types.some((type) => matches(value, type)))
    if (values.length === 0) throw refuse(path, 'no value is of the type and in "enum"')
    return any(...values.map((value) => JSON.stringify(value)))
  }

  #types(type: unknown, path: string): TypeName[] {
    const types = [type].flat()
    for (const one of types)
      if (typeof one !== 'string' || !Object.hasOwn(BY_TYPE, one))
        throw refuse(path, expected('"type"', `of ${Object.keys(BY_TYPE).join(', ')}`, one))
    if (types.length === 0) throw refuse(path, '"type" must name at least one type')
    return types as TypeName[]
  }

  #typed(schema: Schema, path: string): Expression {
    const known = Object.values(BY_TYPE).flat() as string[]
    this.#only(schema, path, ['type', ...known])
    if (!('type' in schema)) {
      const first = Object.keys(schema).find((key) => known.includes(key))
      if (first === undefined) return VALUE
      throw refuse(path, `"${first}" needs a "type" beside it`)
    }
    const types = this.#types(schema['type'], path)
    const meant = types.flatMap((type): string[] => [...BY_TYPE[type]])
    this.#only(schema, path, ['type', ...meant], ` for type ${types.join(', ')}`)
    return any(...types.map((type) => this.#ofType(type, schema, path)))
  }

  #ofType(type: TypeName, schema: Schema, path: string): Expression {
    if (type === 'null') return 'null'
    if (type === 'boolean') return any('true', 'false')
    if (type === 'string') return this.#string(schema, path)
    if (type === 'array') return this.#array(schema, path)
    if (type === 'object') return this.#object(schema, path)
    return this.#number(type, schema, path)
  }

  #count(schema: Schema, key: string, most: number, path: string): number | null {
    const value = schema[key]
    if (value === undefined) return null
    if (!Number.isInteger(value) || (value as number) < 0 || (value as number) > most)
      throw refuse(path, expected(`"${key}"`, `an integer of 0 to ${most}`, value))
    return value as number
  }

  #string(schema: Schema, path: string): Expression {
    const min = this.#count(schema, 'minLength', MAX_COUNTED, path)
    const max = this.#count(schema, 'maxLength', MAX_COUNTED, path)
    if ('format' in schema) {
      const format = FORMATS[String(schema['format'])]
      if (!format)
        throw refuse(
          path,
          expected('"format"', `one of ${Object.keys(FORMATS).join(', ')}`, schema['format']),
        )
      if (min !== null || max !== null)
        throw refuse(path, '"minLength" and "maxLength" are not supported beside "format"')
      return seq('"', format, '"')
    }
    if (max !== null && (min ?? 0) > max)
      throw refuse(path, expected('"minLength"', `at most "maxLength" (${max})`, min))
    return countedString(this.rules, min ?? 0, max)
  }

  #number(type: 'integer' | 'number', schema: Schema, path: string): Expression {
    const bound = (key: string): number | null => {
      const value = schema[key]
      if (value === undefined) return null
      if (!Number.isInteger(value) || Math.abs(value as number) > MAX_INTEGER)
        throw refuse(path, expected(`"${key}"`, 'an integer of at most 15 digits', value))
      return value as number
    }
    const keys = BY_TYPE[type]
    if (keys.every((key) => schema[key] === undefined)) return type === 'integer' ? INTEGER : NUMBER
    const [min, max, above, below] = keys.map(bound) as [
      number | null,
      number | null,
      number | null,
      number | null,
    ]
    const low = Math.max(min ?? -Infinity, above ?? -Infinity)
    const high = Math.min(max ?? Infinity, below ?? Infinity)
    const bounds: Bounds = { low, high, lowOpen: above === low, highOpen: below === high }
    const found = type === 'integer' ? integersWithin(bounds) : numbersWithin(bounds)
    if (!found) throw refuse(path, `no ${type} is within the bounds`)
    return found
  }

  #array(schema: Schema, path: string): Expression {
    const { items, prefixItems = [] } = schema
    if (!Array.isArray(prefixItems))
      throw refuse(path, expected('"prefixItems"', 'a list of schemas', prefixItems))
    const first = prefixItems.map((one, i) => this.value(one, `${path}/prefixItems/${i}`))
    const min = this.#count(schema, 'minItems', MAX_ITEMS, path) ?? 0
    let max = this.#count(schema, 'maxItems', MAX_ITEMS, path)
    if (items === false) max = Math.min(max ?? first.length, first.length)
    if (max !== null && min > max)
      throw refuse(path, expected('"minItems"', `at most ${max} items`, min))
    if (max === 0) return seq('[', WS, ']')
    const item = max !== null && max <= first.length ? VALUE : this.#item(items, path)
    if (first.length === 0 && min === 0 && max === null) return listOf('[', item, ']')
    return seq('[', WS, itemsOf(first, item, min, max), ']')
  }

  #item(items: unknown, path: string): Expression {
    const name = `item${this.#nodes}`
    this.rules.set(name, this.value(items ?? true, `${path}/items`))
    return rule(name)
  }

  #object(schema: Schema, path: string): Expression {
    const { properties = {}, required = [], additionalProperties } = schema
    if (!isObject(properties))
      throw refuse(path, expected('"properties"', 'an object of schemas', properties))
    if (!Array.isArray(required))
      throw refuse(path, expected('"required"', 'a list of names', required))
    const names = Object.keys(properties)
    const stray = required.find((name) => !names.includes(name))
    if (stray !== undefined)
      throw refuse(path, `"required" names ${JSON.stringify(stray)}, which is not in "properties"`)
    const pairs = names.map((name) => ({
      text: seq(
        JSON.stringify(name),
        ':',
        WS,
        this.value(properties[name], `${path}/properties/${name}`),
      ),
      must: required.includes(name),
    }))
    // Where nothing is said about others, none are written unless nothing else could be.
    const others = additionalProperties ?? names.length === 0
    if (names.length === 0 && others === true) return OBJECT
    const other =
      others === false
        ? null
        : seq(otherName(names), ':', WS, this.value(others, `${path}/additionalProperties`))
    return seq('{', WS, pairsOf(this.rules, `object${this.#nodes++}`, pairs, other), '}')
  }
}

/** JSON text of any object: what `json_object` asks for. */
export const objectGrammar = (): Rules => jsonRules().set('root', OBJECT)

/**
 * A grammar whose every text is JSON that the schema (draft 2020-12) holds for. It may know fewer texts than the schema
 * allows: properties come in their order, strings of counted length have no escapes, white space is bounded.
 * @throws ERR_REQUEST_INVALID naming the place and the keyword that is not supported
 */
export function schemaGrammar(schema: unknown): Rules {
  if (!isObject(schema))
    throw refuse('#', expected('json_schema.schema', 'a JSON schema object', schema))
  const converter = new Converter(schema)
  const { rules } = converter
  rules.set('root', converter.value(schema, '#'))
  if (isLeftRecursive(rules)) throw refuse('#', 'a "$ref" leads back to itself without a value')
  if (!isProductive(rules)) throw refuse('#', 'the schema has no finite value: a "$ref" never ends')
  const size = toEbnf(rules).length
  if (size > MAX_TEXT)
    throw refuse('#', `the schema needs a grammar of ${size} characters, of at most ${MAX_TEXT}`)
  return rules
}
