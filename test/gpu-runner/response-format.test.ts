import {
  type Constraint,
  type Constraints,
  createConstraints,
} from '@graft/runner/sampling/grammar/constraints.ts'
import { maskLogits } from '@graft/runner/sampling/grammar/mask-logits.ts'
import { schemaGrammar } from '@graft/runner/sampling/grammar/schema-grammar.ts'
import { sampleAllowed } from '@graft/runner/sampling/sample.ts'
import type { ResponseFormat } from '@graft/sdk/protocol/runner-api.ts'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import * as z from 'zod'
import { GREEDY } from './helpers/greedy.ts'

/** Token 0 ends; 1..255 are bytes; then pieces as a tokenizer has them, over the borders of JSON's own tokens. */
const PIECES = [
  '": "',
  '", "',
  '"}',
  '":',
  '{"',
  '[1',
  '00',
  'true',
  '}]',
  'null',
  'é',
  '日本',
  '\\n',
  ' "',
  '], ',
  '-1',
  'e5',
  '.5',
]
const END = 0
const tokens: (Uint8Array | null)[] = [
  null,
  ...Array.from({ length: 255 }, (_, i) => Uint8Array.of(i + 1)),
  ...PIECES.map((piece) => new TextEncoder().encode(piece)),
]
const ids = (text: string): number[] => [...new TextEncoder().encode(text)]

const opened: Constraints[] = []
const create = (options = {}): Constraints => {
  const made = createConstraints(() => ({ bytes: tokens, stop: [END] }), options)
  opened.push(made)
  return made
}
afterAll(async () => {
  for (const one of opened) await one[Symbol.asyncDispose]()
})
const constraints = create()

const jsonSchema = (schema: Record<string, unknown>): ResponseFormat => ({
  type: 'json_schema',
  schema,
})

/** Bytes that make JSON come to an end soon, if they may come next. */
const CLOSING = ids('"}],:0')

async function start(format: ResponseFormat, before: number[] = []): Promise<Constraint> {
  const constraint = (await constraints.prepare(format))(before)
  await constraint.ready()
  return constraint
}

/** Draws allowed tokens until the end, or `limit` of them. */
async function write(constraint: Constraint, random: () => number, limit: number) {
  const written: number[] = []
  while (written.length < limit) {
    const logits = Float32Array.from(tokens, () => random())
    // Long answers are no better tests.
    const hurry = written.length > 30 ? 3 : 0
    for (const id of CLOSING) logits[id]! += hurry
    logits[END]! += 2 * hurry
    expect(maskLogits(logits, constraint.mask!)).toBe(true)
    const id = sampleAllowed(logits, (token) => constraint.allows(token), GREEDY, 0)
    if (id === null) expect.fail('nothing is left to write')
    if (id === END) return { written, ended: true }
    written.push(id)
    constraint.accept(id)
    await constraint.ready()
  }
  return { written, ended: false }
}

const textOf = (written: number[]): string =>
  new TextDecoder().decode(Uint8Array.from(written.flatMap((id) => [...tokens[id]!])))

/** A small random number generator whose seed fast-check chooses. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

async function accepts(format: ResponseFormat, text: string): Promise<boolean> {
  const constraint = await start(format)
  for (const byte of ids(text)) {
    if (!constraint.allows(byte)) return false
    // The library must see all that the grammar has, or answers would be poorer than the schema.
    expect((constraint.mask![byte >> 5]! >>> (byte & 31)) & 1).toBe(1)
    constraint.accept(byte)
    await constraint.ready()
  }
  const whole = constraint.allows(END)
  if (whole) expect(constraint.mask![0]! & 1).toBe(1)
  constraint.close()
  return whole
}

const key = fc.constantFrom('a', 'b', 'name', 'with space', 'ü"')
const bounds = fc
  .tuple(fc.integer({ min: -1200, max: 1200 }), fc.integer({ min: 0, max: 300 }))
  .map(([low, more]) => [low, low + more] as const)
const { schema: randomSchema } = fc.letrec<{ schema: Record<string, unknown> }>((tie) => ({
  schema: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    fc.constant({ type: 'boolean' }),
    fc.constant({ type: ['string', 'null'] }),
    fc.constant({ type: 'number' }),
    fc
      .constantFrom('date', 'uuid', 'ipv4', 'email', 'date-time')
      .map((format) => ({ type: 'string', format })),
    fc.tuple(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 9 })).map(([min, more]) => ({
      type: 'string',
      minLength: min,
      maxLength: min + more,
    })),
    bounds.map(([minimum, maximum]) => ({ type: 'integer', minimum, maximum })),
    bounds.map(([minimum]) => ({ type: 'integer', minimum })),
    bounds.map(([low]) => ({ type: 'number', exclusiveMaximum: low })),
    bounds.map(([low, high]) => ({ type: 'number', exclusiveMinimum: low, maximum: high + 1 })),
    bounds.map(([low, high]) => ({ type: 'number', minimum: low, exclusiveMaximum: high + 1 })),
    fc
      .uniqueArray(fc.constantFrom(1, 'x', null, true, 'é"\\', -2.5), {
        minLength: 1,
        maxLength: 4,
      })
      .map((values) => ({ enum: values })),
    fc.record({
      type: fc.constant('array'),
      items: tie('schema'),
      minItems: fc.integer({ min: 0, max: 2 }),
      maxItems: fc.integer({ min: 2, max: 4 }),
    }),
    fc
      .tuple(tie('schema'), tie('schema'), fc.integer({ min: 0, max: 2 }))
      .map(([a, b, minItems]) => ({ type: 'array', prefixItems: [a, b], items: false, minItems })),
    fc
      .tuple(
        fc.uniqueArray(fc.tuple(key, tie('schema')), { maxLength: 4, selector: ([name]) => name }),
        fc.integer(),
        fc.oneof(fc.constant(false), fc.constant({ type: 'integer' })),
      )
      .map(([pairs, mask, additionalProperties]) => ({
        type: 'object',
        properties: Object.fromEntries(pairs),
        required: pairs.map(([name]) => name).filter((_, i) => (mask >> i) & 1),
        additionalProperties,
      })),
    fc.tuple(tie('schema'), tie('schema')).map((anyOf) => ({ anyOf })),
  ),
}))

describe('a response format', () => {
  it('lets nothing through that its schema does not hold for, whatever the logits', async () => {
    let ended = 0
    await fc.assert(
      fc.asyncProperty(randomSchema, fc.integer(), async (schema, seed) => {
        const constraint = await start(jsonSchema(schema))
        const answer = await write(constraint, randomOf(seed), 400)
        constraint.close()
        if (!answer.ended) return
        ended++
        const value = JSON.parse(textOf(answer.written))
        const { success, error } = z.fromJSONSchema(schema as never).safeParse(value)
        if (!success) expect.fail(`${JSON.stringify(schema)}: ${textOf(answer.written)}: ${error}`)
      }),
      { numRuns: 150 },
    )
    expect(ended).toBeGreaterThan(100)
  }, 120_000)

  const person = {
    type: 'object',
    properties: { a: { type: 'integer' }, b: { type: 'string', maxLength: 3 } },
    required: ['a'],
    additionalProperties: { type: 'boolean' },
  }
  it.each([
    [{ type: 'object' }, '{"x": [1, {"y": null}]}', '[1]'],
    [person, '{"a": 1, "b": "xyz", "c": true}', '{"b": "xyz"}'],
    [person, '{"a":-7}', '{"a": 1, "a": true}'],
    [person, '{"a": 1, "ab": true}', '{"a": 1, "\\u0061": true}'],
    [person, '{\n  "a": 0,\n  "b": "😀é"\n}', '{"a": 1, "b": "wxyz"}'],
    [{ type: 'object', properties: { a: {}, b: {} } }, '{"b": 1}', '{"b": 1, "a": 2}'],
    [{ type: 'integer', minimum: 3 }, '1000', '2'],
    [{ type: 'integer', exclusiveMaximum: -9 }, '-10', '-9'],
    [{ type: 'number', minimum: 0, exclusiveMaximum: 1 }, '0.999', '1.0'],
    [{ type: 'number', exclusiveMinimum: 0 }, '0.001', '0.0'],
    [{ type: 'number' }, '-1.5e-9', '01'],
    [{ type: 'string' }, '"a\\n\\u00e9\\"日"', '"a\nb"'],
    [{ type: 'string', minLength: 2 }, '"ab"', '"a"'],
    [{ type: 'string', format: 'date' }, '"2024-04-30"', '"2024-04-31"'],
    [{ type: 'array', items: { type: 'null' }, minItems: 1 }, '[null, null]', '[]'],
    [{ type: 'array', prefixItems: [{ const: 1 }], items: false }, '[1]', '[1, 1]'],
    [{ enum: ['a', { b: 1 }] }, '{"b":1}', '"b"'],
    [{ type: ['integer', 'null'] }, 'null', 'true'],
    [{ anyOf: [{ type: 'boolean' }, { const: 'é' }] }, '"é"', '"e"'],
    [
      {
        $defs: { list: { type: 'array', items: { $ref: '#/$defs/list' } } },
        $ref: '#/$defs/list',
      },
      '[[], [[]]]',
      '[1]',
    ],
  ])('of schema %j takes %s and not %s', async (schema, good, bad) => {
    expect(await accepts(jsonSchema(schema), good)).toBe(true)
    expect(await accepts(jsonSchema(schema), bad)).toBe(false)
  })

  it('counts the characters of long strings: 200 and not 201', async () => {
    const format = jsonSchema({ type: 'string', minLength: 3, maxLength: 200 })
    for (const [count, good] of [
      [2, false],
      [3, true],
      [130, true],
      [200, true],
      [201, false],
    ] as const)
      expect(await accepts(format, `"${'é'.repeat(count)}"`)).toBe(good)
  })

  it.each([
    [{ type: 'string', pattern: 'a' }, '#: keyword "pattern" is not supported'],
    [
      { type: 'object', properties: { a: { type: 'array', uniqueItems: true } } },
      '#/properties/a: keyword "uniqueItems" is not supported',
    ],
    [{ type: 'integer', multipleOf: 3 }, 'keyword "multipleOf"'],
    [{ type: 'integer', maxLength: 3 }, 'keyword "maxLength" is not supported for type integer'],
    [{ not: {} }, 'keyword "not"'],
    [{ type: 'object', patternProperties: {} }, 'keyword "patternProperties"'],
    [{ $ref: '#/$defs/a', minimum: 1 }, 'keyword "minimum" is not supported beside "$ref"'],
    [{ $ref: '#/$defs/a' }, '"$ref" names #/$defs/a, and there is nothing there'],
    [{ $ref: 'https://example.com/s.json' }, '"$ref" must be a pointer into this schema'],
    [{ $ref: '#' }, 'a "$ref" leads back to itself without a value'],
    [
      { type: 'object', properties: { n: { $ref: '#' } }, required: ['n'] },
      'the schema has no finite value',
    ],
    [
      { oneOf: [{ type: 'integer' }, { type: 'number' }] },
      '"oneOf" needs branches of different types',
    ],
    [{ allOf: [{ type: 'integer' }, { minimum: 1 }] }, '"allOf" of several schemas'],
    [{ type: 'object', required: ['a'] }, '"required" names "a", which is not in "properties"'],
    [{ type: 'string', format: 'iri' }, '"format" must be one of date'],
    [{ type: 'string', maxLength: 5_000 }, '"maxLength" must be an integer of 0 to 1024, got 5000'],
    [{ type: 'integer', minimum: 5, maximum: 4 }, 'no integer is within the bounds'],
    [
      { type: 'number', minimum: 0.5 },
      '"minimum" must be an integer of at most 15 digits, got 0.5',
    ],
    [{ type: 'text' }, '"type" must be of string'],
    [{ minimum: 1 }, '"minimum" needs a "type" beside it'],
    [{ type: 'boolean', enum: [1] }, 'no value is of the type and in "enum"'],
  ])('refuses %j by name', (schema, message) => {
    expect(() => schemaGrammar(schema)).toThrow(
      expect.objectContaining({
        code: 'ERR_REQUEST_INVALID',
        message: expect.stringContaining(message),
      }),
    )
  })

  it('tells branches of oneOf apart by type or by a constant property', async () => {
    const tagged = (kind: string, value: unknown) => ({
      type: 'object',
      properties: { kind: { const: kind }, value },
      required: ['kind', 'value'],
      additionalProperties: false,
    })
    const format = jsonSchema({
      oneOf: [tagged('n', { type: 'integer' }), tagged('s', { type: 'string' }), { type: 'null' }],
    })
    expect(await accepts(format, '{"kind":"s","value":"x"}')).toBe(true)
    expect(await accepts(format, '{"kind":"n","value":"x"}')).toBe(false)
  })

  it('goes on elsewhere from the tokens alone, and refuses tokens that are not of the form', async () => {
    const format = jsonSchema(person)
    const first = await start(format)
    const { written } = await write(first, randomOf(3), 6)
    const elsewhere = create()
    const second = (await elsewhere.prepare(format))(written)
    await second.ready()
    expect(second.mask).toEqual(first.mask)
    const resume = await elsewhere.prepare(format)
    expect(() => resume(ids('[1'))).toThrow(
      expect.objectContaining({
        code: 'ERR_REQUEST_INVALID',
        message: 'resume must be tokens that the response_format allows, got 91',
      }),
    )
  })

  it('refuses what takes too long to compile, while other answers start over and go on', async () => {
    const hurried = create({ compileMs: 400 })
    const constraint = (await hurried.prepare({ type: 'json_object' }))(ids('{"a'))
    await constraint.ready()
    const before = constraint.mask
    const deep = (levels: number): Record<string, unknown> => ({
      type: 'array',
      items: levels === 0 ? { type: 'string', maxLength: 1_000 } : deep(levels - 1),
      maxItems: 1_000,
    })
    const heavy = Object.fromEntries(
      Array.from({ length: 60 }, (_, i) => [`p${i}`, { type: 'string', maxLength: 900 + i }]),
    )
    const format = jsonSchema({ type: 'object', properties: { ...heavy, deep: deep(4) } })
    const refused = { code: 'ERR_REQUEST_INVALID', message: expect.stringContaining('400 ms') }
    await expect(hurried.prepare(format)).rejects.toMatchObject(refused)
    constraint.accept(ids('b')[0]!)
    await constraint.ready()
    expect(constraint.mask).toEqual(before)
    // Remembered: a caller who insists does not stop the others again.
    const asked = performance.now()
    await expect(hurried.prepare(format)).rejects.toMatchObject(refused)
    expect(performance.now() - asked).toBeLessThan(200)
  })
})
