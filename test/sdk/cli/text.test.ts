import { bytes, money, parseMoney, sideBySide, table } from '@graft/cli/text.ts'
import fc from 'fast-check'
import { expect, it } from 'vitest'

it('writes and reads money exactly, whatever the amount', () => {
  expect(money(12_500, 'USD')).toBe('0.0000125 USD')
  expect(money(-2_500_000_000, 'EUR')).toBe('-2.5 EUR')
  expect(money(Number.MAX_SAFE_INTEGER, 'USD')).toBe('9007199.254740991 USD')
  fc.assert(
    fc.property(fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }), (nanos) => {
      expect(parseMoney(money(nanos, '').trim())).toBe(nanos)
    }),
  )
  const wrong = ['0', '-1', '1e3', '.5', '1.', '0.0000000001', '9007199.254740992', '', ' 1']
  expect(wrong.map(parseMoney)).toEqual(wrong.map(() => null))
})

it('writes sizes as people read them', () => {
  expect([0, 999, 1500, 1_250_000, 3.2e9].map(bytes)).toEqual([
    ...['0 B', '999 B', '1.50 kB', '1.25 MB', '3.20 GB'],
  ])
})

it('aligns columns and wraps two texts beside each other', () => {
  expect(table(['a', 'b'], [['xx', 1]])).toBe('a   b\nxx  1\n')
  const [left, right] = [
    { title: 'L', text: 'one two three four five six' },
    { title: 'R', text: 'x' },
  ]
  expect(sideBySide(left, right, 43).split('\n')).toEqual([
    'L                    | R',
    `${'-'.repeat(20)} | ${'-'.repeat(20)}`,
    'one two three four   | x',
    'five six             |',
    '',
  ])
})
