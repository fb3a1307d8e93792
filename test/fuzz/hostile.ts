import type { Random } from './random.ts'

/** Texts that have broken servers: other encodings, other types, other languages' syntax, other lengths. */
export const TEXTS: readonly string[] = [
  ...['', ' ', '\t', '\r\n', '\u0000', 'a\u0000b', '\u202e', '\ufeff', '\u{1f980}', '\u0130', 'ſ'],
  ...['.', '..', '../../etc/passwd', '..\\..\\', '/', '//', '\\', '~', '*', '?', '#', '%', '%00'],
  ...["'", "' OR '1'='1", "'; DROP TABLE versions; --", '"', '`', '$(id)', '{{7*7}}', '$[7*7]'],
  ...['<script>alert(1)</script>', '"><img src=x>', 'javascript:alert(1)', '%0d%0aset-cookie: a=b'],
  ...['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'null', 'undefined', 'true', 'NaN'],
  ...['0', '-0', '-1', '1', '00', '0x10', '1e3', '1.5', '1_000', '4294967296', '9007199254740991'],
  ...['9007199254740992', '9223372036854775808', '9'.repeat(40), '1e400', 'Infinity', '٣'],
  ...['a'.repeat(300), 'é'.repeat(2000), '@'.repeat(64), '-'.repeat(39), 'sha256:', 'latest'],
  ...[`sha256:${'0'.repeat(64)}`, `sha256:${'F'.repeat(64)}`, `sha256:${'0'.repeat(63)}g`],
  ...[`sha512:${'0'.repeat(128)}`, '0.0.0-', '^1', '>=0 <0', '1.2.3+a+b', '1.x || 2', '99.99.99'],
  ...['@a/b', '@/x', 'x/@y', '@A/B', '@a/b@^1@2', '@a/b@sha256:00', 'WyJhIiwiYiJd', 'bnVsbA', 'AA'],
  ...['x000/000', '0/x001/234.p/5', 'entries/000', '0/000.p/256', '63/000', '2026-02-30T25:61:61Z'],
]

const VALUES: readonly unknown[] = [
  ...[null, true, false, 0, -1, 0.5, 1e21, Number.MAX_SAFE_INTEGER, Number.MIN_VALUE, 2 ** 53],
  ...[[], {}, [[]], [null], { a: {} }, { length: -1 }, { toString: null }],
]

export const hostileText = (random: Random): string => random.pick(TEXTS)

const nested = (depth: number, open: string, close: string): string =>
  open.repeat(depth) + close.repeat(depth)

/** Bytes that are no JSON object, or one that two readers could read as two. */
export function hostileBytes(random: Random): Uint8Array {
  const text = (made: string) => new TextEncoder().encode(made)
  return random.pick<() => Uint8Array>([
    () => text(''),
    () => text(random.pick(['null', '[]', '"x"', '0', '{', '{}', '{}{}', '{"a":}', 'a=b&c=d'])),
    () => text(nested(random.pick([63, 65, 5000]), '[', ']')),
    () => text(nested(random.pick([65, 5000]), '{"a":', '}')),
    () => text('{"name":"a","name":"b"}'),
    () => text('{"\\u006eame":"a","name":"b"}'),
    () => text('{"__proto__":{"admin":true},"constructor":{"prototype":{}}}'),
    () => text(`{"a":${'9'.repeat(random.pick([20, 400, 5000]))}}`),
    () => text('{"a":1e999,"b":-1e999}'),
    () => text('{"a":"\\ud800","b":"\\udfff\\ud800"}'),
    () => text(`{"a":"${'x'.repeat(random.pick([1000, 70_000, 300_000]))}"}`),
    () => text('\ufeff{}'),
    () => Uint8Array.of(0xff, 0xfe, 0x7b, 0, 0x7d, 0),
    () => Uint8Array.of(0x7b, 0x22, 0xc0, 0x80, 0x22, 0x3a, 0x31, 0x7d),
    () => Uint8Array.from({ length: random.below(200) }, () => random.below(256)),
  ])()
}

/** The value with something of it, at any depth, replaced, left out, added or repeated. */
export function mutated(random: Random, value: unknown): unknown {
  if (random.chance(0.25) || typeof value !== 'object' || value === null)
    return random.chance(0.5) ? hostileText(random) : random.pick(VALUES)
  if (Array.isArray(value)) {
    if (value.length === 0 || random.chance(0.2)) return [...value, random.pick(VALUES)]
    const at = random.below(value.length)
    if (random.chance(0.2)) return Array.from({ length: 200 }, () => value[at])
    return value.map((item, i) => (i === at ? mutated(random, item) : item))
  }
  const entries = Object.entries(value)
  if (entries.length === 0 || random.chance(0.15))
    return Object.fromEntries([...entries, [hostileText(random), random.pick(VALUES)]])
  const at = random.below(entries.length)
  if (random.chance(0.2)) return Object.fromEntries(entries.filter((_, i) => i !== at))
  return Object.fromEntries(
    entries.map(([name, item], i) => [name, i === at ? mutated(random, item) : item]),
  )
}
