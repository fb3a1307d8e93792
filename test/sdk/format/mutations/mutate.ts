/**
 * The mutated files of make.py, made again: same generator, same order of choices, so that Python's verdicts can be
 * compared without Python. Bytes are held as text of one character a byte, which regular expressions read.
 */

/** xorshift32 (Marsaglia 2003). */
class Random {
  #state: number
  constructor(seed: number) {
    this.#state = seed >>> 0 || 1
  }
  below(n: number): number {
    let x = this.#state
    x = (x ^ (x << 13)) >>> 0
    x = (x ^ (x >>> 17)) >>> 0
    x = (x ^ (x << 5)) >>> 0
    this.#state = x
    return x % n
  }
}

const latin = (text: string): string => Buffer.from(text, 'utf8').toString('latin1')

const DTYPES =
  'BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ I16 U16 F16 BF16 I32 U32 F32 C64 F64 I64 U64'.split(
    ' ',
  )
const NUMBERS =
  '0 1 2 3 4 5 6 7 8 12 16 24 64 -1 -0 1.0 4.0 4e0 1e999 00 04 18446744073709551615 18446744073709551616 9007199254740991 9007199254740993 4294967296 null "4" [] true 0.5 8.0 1E1'.split(
    ' ',
  )
const STRINGS = [
  ...DTYPES.map((dtype) => `"${dtype}"`),
  ...'"__metadata__" "a" "b" "x" "dtype" "shape" "data_offsets" "\\ud800" "\\u0061" "F128" "f32" null 1 {} "" "é" "\\ud83d\\ude00" "q" "\\u0000"'.split(
    ' ',
  ),
].map(latin)
const INSERTS = [
  ...[' ', '\n', '\t\r', ',', ':', '{', '}', '[', ']', '"', '"extra":1,'],
  '"extra":{"a":[1,null]},',
  '"__metadata__":null,',
  '"__metadata__":{"k":"v"},',
  '"__metadata__":{"k":"v","k":"w"},',
  '"__metadata__":{"k":1},',
  '"n":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},',
  '"n":["F32",[0],[0,0]],',
  '/**/',
  '\ufeff',
  '['.repeat(70) + ']'.repeat(70),
  ...['0', '1', '-', '.0', 'e0'],
].map(latin)
const BYTES = '{}[]",:0123456789 \n\\u.eE-\x00\xff\x80\xc3'
const LENGTHS = [
  ...[0n, 1n, 7n, 100_000_000n, 100_000_001n, 8_388_608n, 8_388_609n],
  ...[2n ** 53n, 2n ** 63n, 2n ** 64n - 1n],
]

type Span = readonly [number, number]
const spans = (pattern: RegExp, header: string): Span[] =>
  [...header.matchAll(pattern)].map((m) => [m.index, m.index + m[0].length])
const replaced = (header: string, [begin, end]: Span, text: string): string =>
  header.slice(0, begin) + text + header.slice(end)
const flip = (text: string, at: number, bit: number): string =>
  replaced(text, [at, at + 1], String.fromCharCode(text.charCodeAt(at) ^ (1 << bit)))

/** File number `case_` of make.py, from the seeds in the order of their names. */
export function mutate(case_: number, seeds: readonly Uint8Array[]): Uint8Array {
  const r = new Random(Math.imul(case_ + 1, 0x9e3779b1))
  const file = Buffer.from(seeds[r.below(seeds.length)]!)
  let length = file.readBigUInt64LE(0)
  let header = file.toString('latin1', 8, 8 + Number(length))
  let data = file.toString('latin1', 8 + Number(length))
  let repair = true
  for (let left = 1 + r.below(2); left > 0; left--) {
    const op = r.below(14)
    if (op === 0 && header) {
      const at = r.below(header.length)
      header = flip(header, at, r.below(8))
    } else if (op === 1 && header) {
      const at = r.below(header.length)
      header = replaced(header, [at, at + 1], BYTES[r.below(BYTES.length)]!)
    } else if (op === 2 && header) {
      const at = r.below(header.length)
      header = replaced(header, [at, at + 1 + r.below(8)], '')
    } else if (op === 3 && header) {
      const at = r.below(header.length)
      header = replaced(header, [at, at], header.slice(at, at + 1 + r.below(24)))
    } else if (op === 4 || op === 5) {
      const found = spans(op === 4 ? /[0-9]+/g : /"[^"\\]*"/g, header)
      if (found.length > 0) {
        const span = found[r.below(found.length)]!
        const choices = op === 4 ? NUMBERS : STRINGS
        header = replaced(header, span, choices[r.below(choices.length)]!)
      }
    } else if (op === 6 || op === 10 || op === 11) {
      const found = spans(/[{}[\],:]/g, header)
      if (found.length > 0) {
        const [, at] = found[r.below(found.length)]!
        const text = op === 6 ? INSERTS[r.below(INSERTS.length)]! : ' \n\t\r'[r.below(4)]!
        header = replaced(header, [at, at], text)
      }
    } else if (op === 7) {
      const found = spans(/[0-9]+/g, header)
      if (found.length > 1) {
        const first = r.below(found.length - 1)
        const second = first + 1 + r.below(found.length - first - 1)
        const [[a, b], [c, d]] = [found[first]!, found[second]!]
        header =
          header.slice(0, a) +
          header.slice(c, d) +
          header.slice(b, c) +
          header.slice(a, b) +
          header.slice(d)
      }
    } else if (op === 8) {
      if (r.below(2) > 0) data = data.slice(0, Math.max(0, data.length - 1 - r.below(8)))
      else
        for (let more = 1 + r.below(8); more > 0; more--) data += String.fromCharCode(r.below(256))
    } else if (op === 9) {
      const kind = r.below(3)
      if (kind < 2) repair = false
      if (kind === 0) length = LENGTHS[r.below(LENGTHS.length)]!
      else if (kind === 1) length = BigInt(Math.max(0, header.length - 4 + r.below(9)))
      else header += ' '.repeat(1 + r.below(8))
    } else if (op === 12 && data) {
      const at = r.below(data.length)
      data = flip(data, at, r.below(8))
    } else if (op === 13) {
      const found = spans(/"[^"\\]*":[ \t\n\r\f\v]*\{/g, header)
      if (found.length > 0) {
        const [start] = found[r.below(found.length)]!
        const end = header.indexOf('"', start + 1) + 1
        header = replaced(header, [start, end], `"t${r.below(100)}"`)
      }
    }
  }
  if (repair) length = BigInt(header.length)
  const bytes = Buffer.alloc(8 + header.length + data.length)
  bytes.writeBigUInt64LE(length)
  bytes.write(header + data, 8, 'latin1')
  return new Uint8Array(bytes)
}
