import { canonicalBytes, canonicalJson } from '@graft/sdk/format/canonical-json.ts'
import { parseStrictJson } from '@graft/sdk/format/strict-json.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { codeOf, hasData, listData, readData } from './vectors.ts'

const RFC8785 = 'vectors/rfc8785/testdata'
const SUITE = 'vectors/json-test-suite/test_parsing'

describe('canonicalJson', () => {
  it.skipIf(!hasData(RFC8785))('writes the bytes of every RFC 8785 vector', () => {
    const files = listData(`${RFC8785}/input`)
    expect(files).toHaveLength(6)
    for (const file of files) {
      const value = parseStrictJson(readData(`${RFC8785}/input/${file}`), file)
      expect(canonicalBytes(value), file).toEqual(readData(`${RFC8785}/output/${file}`))
    }
  })

  it('does not depend on the order of keys and survives a round trip', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const shuffle = (v: unknown): unknown =>
          Array.isArray(v)
            ? v.map(shuffle)
            : typeof v === 'object' && v !== null
              ? Object.fromEntries(
                  Object.entries(v)
                    .reverse()
                    .map(([k, x]) => [k, shuffle(x)]),
                )
              : v
        const text = canonicalJson(value)
        expect(canonicalJson(shuffle(value))).toBe(text)
        expect(canonicalJson(parseStrictJson(text, 'text'))).toBe(text)
        expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)))
      }),
    )
  })

  it.each([
    ['NaN', Number.NaN],
    ['infinity', { a: Number.POSITIVE_INFINITY }],
    ['an unpaired surrogate', ['\ud800']],
    ['an unpaired surrogate as a key', { '\udfff': 1 }],
    ['undefined in a list', [undefined]],
    ['a bigint', 1n],
    ['a date', new Date(0)],
    ['a map', { a: new Map() }],
  ])('refuses %s', (_, value) => {
    expect(codeOf(() => canonicalJson(value))).toBe('ERR_JSON_INVALID')
  })

  it('leaves undefined members out, as JSON.stringify does', () => {
    expect(canonicalJson({ b: undefined, a: -0 })).toBe('{"a":0}')
  })
})

describe('parseStrictJson', () => {
  it.skipIf(!hasData(SUITE))('answers the JSON parsing test suite, but for duplicate names', () => {
    const wrong = listData(SUITE).filter((file) => {
      const code = codeOf(() => parseStrictJson(readData(`${SUITE}/${file}`), file))
      if (code !== 'accepted' && code !== 'ERR_JSON_INVALID') return true
      return file.startsWith('y_')
        ? code !== 'accepted'
        : file.startsWith('n_') && code === 'accepted'
    })
    expect(wrong).toEqual([
      'y_object_duplicated_key.json',
      'y_object_duplicated_key_and_value.json',
    ])
  })

  it('gives what JSON.parse gives, for all that it accepts', () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        expect(parseStrictJson(text, 'text')).toEqual(JSON.parse(text))
      }),
    )
  })

  it.each(['{"a":{"b":1,"b":1}}', '[{"x":0,"\\u0078":0}]', '{"__proto__":1,"__proto__":2}'])(
    'refuses the duplicate name in %s',
    (text) => expect(codeOf(() => parseStrictJson(text, 'text'))).toBe('ERR_JSON_INVALID'),
  )

  it('keeps a member called __proto__ as a plain member', () => {
    const value = parseStrictJson('{"__proto__":{"admin":true}}', 'text') as object
    expect(Object.keys(value)).toEqual(['__proto__'])
    expect('admin' in value).toBe(false)
  })

  it.each([
    ['a number beyond f64', '1e999'],
    ['an escaped unpaired surrogate', '"\\ud800"'],
    ['65 levels', `${'['.repeat(65)}${']'.repeat(65)}`],
    ['a byte order mark', '\ufeff{}'],
  ])('refuses %s', (_, text) => {
    expect(codeOf(() => parseStrictJson(new TextEncoder().encode(text), 'text'))).toBe(
      'ERR_JSON_INVALID',
    )
  })

  it('accepts 64 levels', () => {
    expect(codeOf(() => parseStrictJson('['.repeat(64) + ']'.repeat(64), 'text'))).toBe('accepted')
  })

  it('says where, what was expected and what came', () => {
    expect(() => parseStrictJson('{"a":tru}', 'config.json')).toThrow(
      'config.json: character 5 must be a JSON value, got "tru}"',
    )
  })
})
