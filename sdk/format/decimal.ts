/** The one form of a decimal number: no exponent, no "+", no trailing zero, no "-0". */
const DECIMAL = /^-?(?:0|[1-9]\d*)(?:\.\d*[1-9])?$/

/** Longest that f64 needs without an exponent for the magnitudes a scale may have. */
export const MAX_DECIMAL_LENGTH = 64

export const isDecimal = (text: unknown): text is string =>
  typeof text === 'string' &&
  text.length <= MAX_DECIMAL_LENGTH &&
  DECIMAL.test(text) &&
  text !== '-0' &&
  Number.isFinite(Number(text))

/**
 * The shortest decimal that reads back as the same f64, without an exponent: 0.7071067811865476, 0.0000001.
 * @throws RangeError for what is not finite
 */
export function toDecimal(value: number): string {
  if (!Number.isFinite(value)) throw new RangeError(`${value} is not a decimal number`)
  const text = String(value === 0 ? 0 : value)
  const [, sign = '', whole = '', fraction = '', exponent] =
    /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(text) ?? []
  if (exponent === undefined) return text
  const shift = Number(exponent)
  const digits = whole + fraction
  const point = whole.length + shift
  if (point <= 0) return `${sign}0.${'0'.repeat(-point)}${digits}`
  if (point >= digits.length) return sign + digits.padEnd(point, '0')
  return `${sign}${digits.slice(0, point)}.${digits.slice(point)}`
}
