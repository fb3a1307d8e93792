import {
  formatReference,
  parseAdapterReference,
  parseModelReference,
} from '@graft/sdk/format/parse-reference.ts'
import { isRange, isVersion } from '@graft/sdk/format/semver.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { codeOf, hasData, listData, readJsonData } from './vectors.ts'

const DIGEST = `sha256:${'ab'.repeat(32)}`

describe('parseModelReference', () => {
  it('reads a base, an adapter and a weighted sum', () => {
    expect(parseModelReference('graft-tiny')).toEqual({ kind: 'base', name: 'graft-tiny' })
    expect(parseModelReference('@acme/sql@^1.2')).toEqual({
      kind: 'adapters',
      terms: [
        {
          reference: { package: '@acme/sql', selector: { kind: 'range', range: '^1.2' } },
          weight: '1',
        },
      ],
    })
    const sum = parseModelReference(`0.70(@a/x@^1) + -0.3(@b/y@${DIGEST})`)
    expect(sum).toEqual({
      kind: 'adapters',
      terms: [
        { reference: { package: '@a/x', selector: { kind: 'range', range: '^1' } }, weight: '0.7' },
        {
          reference: { package: '@b/y', selector: { kind: 'digest', digest: DIGEST } },
          weight: '-0.3',
        },
      ],
    })
  })

  it.each([
    ['@acme/sql', { kind: 'tag', tag: 'latest' }],
    ['@acme/sql@beta', { kind: 'tag', tag: 'beta' }],
    ['@acme/sql@1.2.3', { kind: 'range', range: '1.2.3' }],
    ['@acme/sql@x', { kind: 'range', range: 'x' }],
    ['@acme/sql@>=1.2 <2 || 3.x', { kind: 'range', range: '>=1.2 <2 || 3.x' }],
    [`@acme/sql@${DIGEST}`, { kind: 'digest', digest: DIGEST }],
  ])('reads the selector of %s', (text, selector) => {
    expect(parseAdapterReference(text)).toEqual({ package: '@acme/sql', selector })
  })

  it('keeps a "+" of build metadata apart from the "+" of a sum', () => {
    const text = '0.5(@a/x@1.0.0+b.1)+0.5(@b/y@2.0.0+c)'
    expect(formatReference(parseModelReference(text))).toBe(text)
  })

  it.each([
    '',
    ' ',
    '@acme',
    '@acme/',
    '@Acme/sql',
    '@acme/sql@',
    '@acme/sql@sha256:12',
    '@acme/sql@Latest!',
    '@acme/sql/x@1',
    '../../etc/passwd',
    'a/b/c',
    '0(@a/x@1)',
    '0.0(@a/x@1)+1(@b/y@1)',
    '1e3(@a/x@1)',
    '00.5(@a/x@1)',
    'NaN(@a/x@1)',
    '0.5(@a/x@1)+',
    '+0.5(@a/x@1)',
    '0.5(@a/x@1)0.5(@b/y@1)',
    '0.5(graft-tiny)',
    '0.5(0.5(@a/x@1))',
    '@a/x@1+@b/y@1',
    'x'.repeat(2049),
    Array(17).fill('0.1(@a/x@1)').join('+'),
  ])('refuses %j', (text) => {
    expect(codeOf(() => parseModelReference(text))).toBe('ERR_REFERENCE_INVALID')
  })

  it('reads back what it formats', () => {
    const name = fc.stringMatching(/^@[a-z0-9]{1,8}\/[a-z0-9][a-z0-9._-]{0,8}$/)
    const selector = fc.constantFrom('latest', 'beta', '^1', '1.2.3', '~1.2', '1 - 2', DIGEST)
    const weight = fc.constantFrom('1', '0.5', '-0.25', '12')
    fc.assert(
      fc.property(
        fc.array(fc.tuple(weight, name, selector), { minLength: 1, maxLength: 4 }),
        (rows) => {
          const text = rows.map(([w, n, s]) => `${w}(${n}@${s})`).join('+')
          const parsed = parseModelReference(text)
          expect(parseModelReference(formatReference(parsed))).toEqual(parsed)
        },
      ),
    )
  })

  it('never crashes', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 60 }), (text) => {
        expect(codeOf(() => parseModelReference(text))).toMatch(
          /^(accepted|ERR_REFERENCE_INVALID)$/,
        )
      }),
    )
  })
})

describe('semver grammar', () => {
  const ranges = 'vectors/node-semver'
  it.skipIf(!hasData(ranges))('agrees with node-semver about versions, but for a leading v', () => {
    const valid: [string][] = readJsonData(`${ranges}/valid-versions.json`)
    expect(valid.filter(([text]) => !isVersion(text)).map(([text]) => text)).toEqual(['v1.2.3'])
    const invalid: [string][] = readJsonData(`${ranges}/invalid-versions.json`)
    expect(invalid.filter(([text]) => isVersion(text))).toEqual([])
  })

  it.skipIf(!hasData(ranges))(
    'accepts the ranges npm accepts, but for empty and overlong ones',
    () => {
      const rows: [string, string, unknown][] = readJsonData(`${ranges}/range-include.json`)
      const refused = rows.filter(([range, , options]) => !options && !isRange(range))
      expect(refused.map(([range]) => range)).toEqual(['', '||'])
    },
  )

  it.skipIf(!hasData(ranges))('tells ranges from other text as node-semver does', () => {
    const rows: [string, string | null, unknown][] = readJsonData(`${ranges}/range-parse.json`)
    const plain = rows.filter(([, , options]) => options === undefined)
    const wrong = plain.filter(([text, meaning]) => isRange(text) !== (meaning !== null))
    // The empty range is refused; the last one is a range whose end would be beyond 2^53, which choosing finds out.
    expect(wrong.map(([text]) => text)).toEqual(['', '||', '^9007199254740991.0.0'])
    for (const file of listData(ranges).filter((name) => /^(range-exclude|version-)/.test(name))) {
      const table: [string, string, unknown?][] = readJsonData(`${ranges}/${file}`)
      const refused = table.filter(
        ([text, , options]) => !options && text !== '||' && !isRange(text),
      )
      expect(
        refused.map(([text]) => text),
        file,
      ).toEqual([])
    }
  })

  it.each(['latest', 'beta', 'sha256:ab', '1.2.3.4', '1.x.5', 'x.1', '>', '^', '', '1..2', 'v'])(
    'does not take %j for a range',
    (text) => expect(isRange(text)).toBe(false),
  )
})
