import { bodies, forms, meaningful, valueFor, type World } from './forms.ts'
import { hostileBytes, hostileText, mutated } from './hostile.ts'
import type { Random } from './random.ts'
import { fillPath, type Route } from './routes.ts'

export interface FuzzRequest {
  route: Route
  method: string
  path: string
  headers: Record<string, string>
  body: Uint8Array<ArrayBuffer> | null
  /** In whose name: null is nobody, or a token that counts for nothing. */
  as: 'victim' | 'attacker' | null
}

const QUERY: Record<string, readonly string[]> = {
  '/v1/resolve': ['ref', 'ref', 'base', 'operations', 'maxRank', 'licences', 'minReleaseAge'],
  '/v1/packages': ['org', 'q'],
  '/v1/bases': ['name'],
  '/v1/tokens': ['after', 'limit'],
  '/v1/log/entries': ['from', 'limit'],
  '/search': ['q', 'base', 'method', 'keyword', 'sort', 'cursor'],
  '/:scope{@[^/]+}/:name/versions': ['from'],
  '/device': ['user_code'],
  '/account/sign-in': ['next'],
}
/** Bytes of a part, as the registry that is fuzzed has it. */
export const PART_BYTES = 300

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'PROPFIND', 'get']

/** One request for the route: like one that a client sends, with something of it bent. */
export function makeRequest(random: Random, route: Route, world: World): FuzzRequest {
  if (random.chance(STRAIGHT)) return straightRequest(random, route, world)
  const known = meaningful(world)
  const value = (name: string) => valueFor(random, known, name)
  const method = random.chance(0.06) ? random.pick(METHODS) : route.method
  const as = random.pick([null, 'attacker', 'attacker', 'attacker', 'victim'] as const)
  // The victim only reads, so that all of it is there to be found until the end.
  const reads = ['GET', 'HEAD'].includes(method.toUpperCase())
  const who = as === 'victim' && !reads ? 'attacker' : as
  const path = pathOf(random, route.path, value) + queryOf(random, route.path, known, value)
  const { bytes, type } = reads ? NONE : bodyOf(random, route, world, path, value)
  const headers: Record<string, string> = {
    ...(type === null ? {} : { 'content-type': type }),
    ...credentials(random, who, world),
    ...strangeHeaders(random, known),
  }
  return { route, method, path, headers, as: who, body: bytes }
}

/** Share of requests that the attacker means: of its own things, and mostly taken. They reach what lies behind the checks. */
const STRAIGHT = 0.15

function straightRequest(random: Random, route: Route, world: World): FuzzRequest {
  const { attacker, operator } = world
  const own = { ...world, victim: attacker }
  const known = meaningful(own)
  const value = (name: string) => valueFor(random, known, name, 1)
  const { method } = route
  const sends = route.path.startsWith('/v1/publish')
  const meant: Record<string, string> = sends ? { id: 'upload', digest: 'uploaded' } : {}
  const path = fillPath(route.path, (name) => encodeURI(value(meant[name] ?? name)))
  const names = QUERY[route.path]
  const name = names && random.pick(names)
  const query = name ? `?${name}=${encodeURIComponent(value(name))}` : ''
  const { bytes, type } = method === 'GET' ? NONE : goodBody(random, route, own, path, value)
  const signedIn = /^\/(device|account)/.test(route.path)
  const token = route.path === '/v1/users' ? operator : attacker.token
  const headers: Record<string, string> = {
    ...(type === null ? {} : { 'content-type': type }),
    ...(signedIn
      ? { cookie: attacker.session.cookie }
      : { authorization: `Bearer ${random.chance(0.05) ? attacker.capability : token}` }),
  }
  return { route, method, path: path + query, headers, as: 'attacker', body: bytes }
}

const NONE = { bytes: null, type: null }

function pathOf(random: Random, path: string, value: (name: string) => string): string {
  const filled = fillPath(path, (name) => {
    const text = value(name)
    return name === 'path' || random.chance(0.05) ? encodeURI(text) : encodeURIComponent(text)
  }).replaceAll('%40', '@')
  if (!random.chance(0.05)) return filled
  return random.pick([
    ...[`${filled}/`, `/${filled}`, `${filled}%00`, `${filled}/..%2f..`, filled.toUpperCase()],
    ...[`${filled}%zz`, `${filled}%C0%AF`, `${filled};a=b`, filled.replace('/v1/', '/v2/')],
    ...[filled.replaceAll('/', '%2f').replace('%2f', '/'), `${filled}/${'a/'.repeat(500)}`],
  ])
}

function queryOf(
  random: Random,
  path: string,
  known: Record<string, readonly string[]>,
  value: (name: string) => string,
): string {
  const names = QUERY[path]
  if (!random.chance(names ? 0.85 : 0.08)) return ''
  if (random.chance(0.04)) return random.pick(['?', '?&&=&', '?%', '?a=%zz', '?__proto__=1', '?='])
  const count = 1 + random.below(3)
  const pairs = Array.from({ length: count }, () => {
    const stray = names === undefined || random.chance(0.08)
    const name = stray
      ? random.pick([...Object.keys(known), hostileText(random)])
      : random.pick(names)
    return `${encodeURIComponent(name)}=${encodeURIComponent(value(name))}`
  })
  return `?${(random.chance(0.1) ? [...pairs, pairs[0]] : [...new Set(pairs)]).join('&')}`
}

interface Body {
  bytes: Uint8Array<ArrayBuffer> | null
  type: string | null
}
type Bend = <T>(value: T) => unknown

const FORM = 'application/x-www-form-urlencoded'
const coded = (text: string): Uint8Array<ArrayBuffer> => Uint8Array.from(Buffer.from(text))

/** The body that the route wants, with `bend` applied before it is written down. */
function goodBody(
  random: Random,
  route: Route,
  world: World,
  path: string,
  value: (name: string) => string,
  bend: Bend = (good) => good,
): Body {
  const at = `${route.method} ${route.path}`
  const form = forms(world, value)[at]?.()
  if (form !== undefined) {
    const fields = Object.entries(bend(form) ?? {}).map(([name, text]): [string, string] => [
      name,
      typeof text === 'string' ? text : `${JSON.stringify(text)}`,
    ])
    return { bytes: coded(new URLSearchParams(fields).toString()), type: FORM }
  }
  if (route.path.includes('/blobs/')) {
    const files = [...world.attacker.opened.files]
    const [, bytes] = files.find(([digest]) => path.includes(digest)) ?? random.pick(files)
    const part = Number(/\/parts\/(\d)/.exec(path)?.[1] ?? 0)
    const sent = part === 0 ? bytes : bytes.subarray(PART_BYTES * (part - 1), PART_BYTES * part)
    return { bytes: Uint8Array.from(sent), type: null }
  }
  const { 'POST /v1/publish': publish, ...others } = bodies(world, value)
  const all: typeof others = at === 'POST /v1/publish' ? { [at]: publish! } : others
  const good = bend((all[at] ?? random.pick(Object.values(others)))())
  return { bytes: coded(JSON.stringify(good) ?? ''), type: 'application/json' }
}

function bodyOf(
  random: Random,
  route: Route,
  world: World,
  path: string,
  value: (name: string) => string,
): Body {
  if (random.chance(0.03)) return NONE
  const strange = random.chance(0.05) ? hostileHeader(random) : null
  if (random.chance(0.15)) return { bytes: Uint8Array.from(hostileBytes(random)), type: strange }
  const bends = random.pick([0, 0, 1, 1, 2, 5])
  const bend: Bend = (good) => {
    let sent: unknown = good
    for (let i = 0; i < bends; i++) sent = mutated(random, sent)
    return sent
  }
  const { bytes, type } = goodBody(random, route, world, path, value, bend)
  return { bytes, type: strange ?? type }
}

const hostileHeader = (random: Random): string =>
  // What a header may hold at all: visible ASCII, spaces and Latin-1.
  hostileText(random)
    .replace(/[^\t\x20-\x7e\xa0-\xff]/g, '')
    .trim()

function credentials(random: Random, as: FuzzRequest['as'], world: World): Record<string, string> {
  if (as === null) return random.chance(0.5) ? {} : { authorization: forged(random, world) }
  const { token, narrow, capability, session } = world[as]
  if (as === 'attacker' && random.chance(0.15)) return { cookie: session.cookie }
  const kind = random.next()
  const own = kind < 0.6 ? token : kind < 0.8 ? random.pick(narrow) : capability
  return { authorization: `Bearer ${own}` }
}

/** What no server may take for a token, much of it made of real ones. */
function forged(random: Random, { attacker, victim }: World): string {
  const [header, , signature] = attacker.token.split('.') as [string, string, string]
  const [theirHeader, theirs] = victim.token.split('.') as [string, string, string]
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  return random.pick([
    `Bearer ${header}.${theirs}.${signature}`,
    `Bearer ${encode({ alg: 'none', typ: 'graft-access+jwt' })}.${theirs}.`,
    `Bearer ${encode({ alg: 'none' })}.${theirs}.AA`,
    `Bearer ${encode({ alg: 'HS256', typ: 'graft-capability+jwt' })}.${theirs}.${signature}`,
    `Bearer ${theirHeader}.${theirs}.${'A'.repeat(86)}`,
    `Bearer ${victim.token.slice(0, -4)}`,
    `bearer  ${victim.token.slice(0, 60)}`,
    `Bearer ${victim.capability.slice(0, -6)}AAAAAA`,
    `Basic ${Buffer.from('ada:x').toString('base64')}`,
    `Bearer ${victim.token.slice(1)}, Bearer ${attacker.token}`,
    ...['Bearer', 'Bearer ', 'Bearer a.b.c', 'Bearer ..', `Bearer ${'A'.repeat(9000)}.A.A`, ''],
    `Bearer ${encode([1])}.${encode([2])}.AA`,
    hostileHeader(random),
  ])
}

function strangeHeaders(
  random: Random,
  known: Record<string, readonly string[]>,
): Record<string, string> {
  const headers: Record<string, string> = {}
  const maybe = (p: number, name: string, values: readonly string[]) => {
    if (random.chance(p)) headers[name] = random.pick(values)
  }
  const tags = known['digest']!.map((digest) => `"${digest}"`)
  const ranges = ['0-', '-1', '-0', '5-2', '0-0', '99999999999-', '0-0,2-3', `${'9'.repeat(15)}-`]
  maybe(0.1, 'range', [...ranges.map((range) => `bytes=${range}`), 'bytes=a-b', 'lines=1-2', ''])
  maybe(0.06, 'if-none-match', ['*', 'W/"a"', '"', ',,,', ...tags, tags.join(', ')])
  maybe(0.03, 'if-range', ['"x"', 'Wed, 21 Oct 2015 07:28:00 GMT', ...tags])
  maybe(0.04, 'content-length', ['0', '-1', '1e9', '99999999999999999999', 'abc', '7', '0x10'])
  maybe(0.1, 'accept', ['text/html', '*/*', 'text/html;q=0', 'application/xml', ''])
  maybe(0.03, 'sec-fetch-site', ['cross-site', 'same-origin', 'none'])
  maybe(0.03, 'origin', ['null', 'https://evil.example', 'http://localhost'])
  maybe(0.02, 'x-http-method-override', ['DELETE', 'PUT'])
  maybe(0.02, 'x-forwarded-for', ['127.0.0.1', '::1, 10.0.0.1'])
  maybe(0.02, 'cookie', ['graft-session=', '__Host-graft-session=a', '=;=;', 'a'.repeat(5000)])
  maybe(0.02, 'transfer-encoding', ['chunked', 'gzip', 'identity, chunked'])
  maybe(0.02, 'content-encoding', ['gzip', 'br'])
  maybe(0.02, 'x-request-id', [hostileHeader(random)])
  return headers
}
