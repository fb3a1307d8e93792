import { canonicalJson } from '@graft/sdk/format/canonical-json.ts'
import {
  BY_TYPE,
  isObject,
  literalsOf,
  resolvePointer,
  type Schema,
  type TypeName,
  typeOf,
} from './schema.ts'

interface Kinds {
  types: TypeName[]
  /** Canonical JSON of the values of required properties that are constant, by name. */
  tags: Map<string, string[]>
}

/** A chain of references longer than this is taken for any value. */
const MAX_HOPS = 8

function kindsOf(branch: unknown, root: Schema): Kinds {
  const all = Object.keys(BY_TYPE) as TypeName[]
  const tags = new Map<string, string[]>()
  let schema = branch
  for (
    let hops = 0;
    isObject(schema) && typeof schema['$ref'] === 'string' && hops < MAX_HOPS;
    hops++
  )
    schema = resolvePointer(root, schema['$ref'])
  if (!isObject(schema)) return { types: all, tags }
  const values = literalsOf(schema)
  let types = all
  if (values) types = values.map(typeOf)
  else if ('type' in schema) types = [schema['type']].flat() as TypeName[]
  // An integer is a number too.
  if (types.includes('number')) types = [...types, 'integer']
  const { required, properties } = schema
  if (types.length === 1 && types[0] === 'object' && isObject(properties))
    for (const key of Array.isArray(required) ? required : []) {
      const property = properties[key]
      const known = isObject(property) ? literalsOf(property) : null
      if (known) tags.set(key, known.map(canonicalJson))
    }
  return { types, tags }
}

function areTwoApart(a: Kinds, b: Kinds): boolean {
  if (a.types.every((type) => !b.types.includes(type))) return true
  return [...a.tags].some(([key, values]) => {
    const others = b.tags.get(key)
    return others !== undefined && values.every((value) => !others.includes(value))
  })
}

/** Whether no value can match two of the branches: by its type, or by a constant property that it must have. */
export function areApart(branches: unknown[], root: Schema): boolean {
  const kinds = branches.map((branch) => kindsOf(branch, root))
  return kinds.every((a, i) => kinds.slice(i + 1).every((b) => areTwoApart(a, b)))
}
