import { isDecimal, toDecimal } from '@graft/sdk/format/decimal.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

describe('decimals', () => {
  it('read back as the same f64, in the one form that is accepted', () => {
    const numbers = fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e40, max: 1e40 })
    fc.assert(
      fc.property(numbers, (value) => {
        const text = toDecimal(value)
        expect(Number(text)).toBe(value === 0 ? 0 : value)
        if (text.length <= 64) expect(isDecimal(text)).toBe(true)
      }),
    )
  })

  it.each([
    [2, '2'],
    [8 / 3, '2.6666666666666665'],
    [1e-7, '0.0000001'],
    [1.5e-9, '0.0000000015'],
    [1e21, '1000000000000000000000'],
    [-0, '0'],
  ])('writes %d as %s', (value, text) => expect(toDecimal(value)).toBe(text))

  it.each(['1.0', '01', '+1', '.5', '1.', '1e3', '-0', 'NaN', '', ' 1', '0x1', '1,5'])(
    'refuses %j',
    (text) => expect(isDecimal(text)).toBe(false),
  )
})
