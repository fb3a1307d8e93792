import { isGraftError } from '@graft/sdk/format/errors.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import * as adapterhub from './adapterhub/fixtures.ts'
import * as mlx from './mlx/fixtures.ts'

type Json = fc.JsonValue
type Files = Map<string, Uint8Array>

/** Every path of a config, to its innermost values. */
function pathsOf(value: unknown, at: string[] = []): string[][] {
  if (typeof value !== 'object' || value === null) return [at]
  return [
    ...(at.length > 0 ? [at] : []),
    ...Object.entries(value).flatMap(([key, inner]) => pathsOf(inner, [...at, key])),
  ]
}

const replaced = (value: unknown, [key, ...rest]: readonly string[], by: Json): unknown => {
  if (key === undefined) return by
  const copy = (Array.isArray(value) ? [...value] : { ...(value as object) }) as Record<
    string,
    unknown
  >
  copy[key] = replaced(copy[key], rest, by)
  return copy
}

const odd = fc.oneof(
  fc.constantFrom<Json>(null, true, false, '', 0, -1, 1.5, 1e308, 1e-320, [], {}, ['q'], [[]]),
  fc.constantFrom<Json>(
    '__proto__',
    'union',
    'lora',
    'full',
    'dora',
    'learned',
    '..',
    'heads.',
    '\u0000',
  ),
  fc.integer(),
  fc.jsonValue({ maxDepth: 2 }),
)

/** A config of which one value is any JSON: it is read, or refused by name; nothing else is thrown. */
const holds = async (
  files: Files,
  importEdited: (edit: (files: Files) => void) => Promise<unknown>,
): Promise<void> => {
  const config: unknown = JSON.parse(new TextDecoder().decode(files.get('adapter_config.json')))
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...pathsOf(config)), odd, async (path, by) => {
      const bytes = new TextEncoder().encode(JSON.stringify(replaced(config, path, by)))
      const error = await importEdited((edited) => edited.set('adapter_config.json', bytes)).then(
        () => null,
        (thrown: unknown) => thrown,
      )
      if (error !== null && !isGraftError(error)) throw error
      expect(error === null || isGraftError(error)).toBe(true)
    }),
    { numRuns: 120 },
  )
}

describe('a config of which one value is anything at all', () => {
  it.each(['llama-lora', 'llama-ia3', 'llama-mam', 'plain-vera-diagonal', 'bert-post-add'])(
    'of AdapterHub (%s) is read or refused by name',
    (name) => holds(adapterhub.sourceOf(name), (edit) => adapterhub.importFixture(name, edit)),
    30_000,
  )

  it.each(['llama-keys', 'llama-trained', 'mixtral-switch'])(
    'of MLX (%s) is read or refused by name',
    (name) => holds(mlx.sourceOf(name), (edit) => mlx.importFixture(name, edit)),
    30_000,
  )
})
