import { ERRORS } from '@graft/sdk/format/errors.ts'
import type { FuzzRequest } from './requests.ts'

export interface FuzzAnswer {
  status: number
  headers: Headers
  /** One character a byte. */
  body: string
  ms: number
}

/** RFC 6749 section 5.2 has its own shape; a person's browser gets a page. */
const OAUTH = /^\/+oauth\//
/** What only the inside of a server says. */
const INSIDES =
  /node:internal|\bat [\w.]+ \(|\.ts:\d+|SQLITE_|D1_ERROR|no such (table|column)|\/registry\//i

/** What is wrong with an answer by itself, whoever asked. */
export function judgeShape({ method, path }: FuzzRequest, answer: FuzzAnswer): string[] {
  const { status, headers, body } = answer
  const wrong: string[] = []
  const claim = (holds: boolean, what: string) => {
    if (!holds) wrong.push(what)
  }
  claim(status >= 200 && status < 500, `a status of ${status}`)
  claim((headers.get('x-request-id') ?? '') !== '', 'no x-request-id')
  if (method === 'HEAD') claim(body === '', 'HEAD with a body')
  if (status < 400) return wrong
  claim(headers.get('cache-control') === 'no-store', 'a refusal that may be kept')
  claim(!INSIDES.test(body.replaceAll(path, '')), 'a refusal that tells of the inside')
  if (method === 'HEAD') return wrong
  const type = headers.get('content-type') ?? ''
  if (type.startsWith('text/html')) {
    claim(!path.startsWith('/v1/'), 'a page from the API')
    claim(headers.get('content-security-policy') !== null, 'a page without a policy')
    return wrong
  }
  claim(type.startsWith('application/json'), `a refusal of type ${type}`)
  const parsed = parsedOrNull(body)
  if (OAUTH.test(path) && typeof parsed?.['error'] === 'string')
    claim(typeof parsed['error_description'] === 'string', 'an OAuth error without its description')
  else claim(isErrorBody(parsed, answer), `an error of another shape: ${body.slice(0, 200)}`)
  return wrong
}

function isErrorBody(parsed: Record<string, unknown> | null, { status, headers }: FuzzAnswer) {
  const error = (parsed?.['error'] ?? {}) as Record<string, unknown>
  const { code, message, type, param, requestId, ...rest } = error
  const known = typeof code === 'string' && Object.hasOwn(ERRORS, code)
  return (
    known &&
    (ERRORS[code as keyof typeof ERRORS].status === status || status === 416) &&
    typeof message === 'string' &&
    typeof type === 'string' &&
    param === null &&
    requestId === headers.get('x-request-id') &&
    Object.keys(rest).length + Object.keys(parsed ?? {}).length === 1
  )
}

function parsedOrNull(body: string): Record<string, unknown> | null {
  try {
    return JSON.parse(Buffer.from(body, 'latin1').toString())
  } catch {
    return null
  }
}

/** All that a request says, for looking for a secret in it. */
export const textOf = ({ path, headers, body }: FuzzRequest): string =>
  [
    decoded(path),
    ...Object.values(headers),
    body === null ? '' : decoded(Buffer.from(body).toString('latin1')),
  ].join('\n')

/** Percent signs and cursors undone: what was sent in another coding was sent all the same. */
function decoded(text: string): string {
  const plain = text.replace(/%([0-7][0-9a-f])/gi, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  )
  const coded = plain.match(/[\w-]{16,}/g) ?? []
  return [text, plain, ...coded.map((some) => Buffer.from(some, 'base64url').toString())].join('\n')
}

/** Secrets that an answer tells and the request did not. `also` were never known to who asks, said or not. */
export function findLeaks(
  request: FuzzRequest,
  answer: FuzzAnswer,
  secrets: Iterable<string>,
  also: readonly string[],
): string[] {
  const told = [answer.body, ...[...answer.headers].map(([name, text]) => `${name}: ${text}`)]
  const text = `${told.join('\n')}\n${decoded(told.join('\n'))}`
  const asked = textOf(request)
  return [
    ...[...secrets].filter((secret) => text.includes(secret) && !asked.includes(secret)),
    ...also.filter((bytes) => answer.body.includes(bytes)).map(() => 'bytes of a private file'),
  ]
}

/** The same request about what does not exist, or null when it names nothing that is secret. */
export function twinOf(request: FuzzRequest, secrets: Map<string, string>): FuzzRequest | null {
  const replaced = (text: string) => {
    let made = text
    for (const [secret, absent] of secrets)
      for (const code of [String, encodeURIComponent])
        made = made.replaceAll(code(secret), code(absent))
    return made
  }
  const body = request.body && Buffer.from(request.body).toString('latin1')
  const headers = Object.entries(request.headers).map(([name, text]): [string, string] => [
    name,
    // Tokens are signed; what they say is not asked about.
    name === 'authorization' ? text : replaced(text),
  ])
  const twin: FuzzRequest = {
    ...request,
    path: replaced(request.path),
    headers: Object.fromEntries(headers),
    body: body === null ? null : Uint8Array.from(Buffer.from(replaced(body), 'latin1')),
  }
  const asked = (r: FuzzRequest) => [r.path, r.body?.join(), JSON.stringify(r.headers)].join('\n')
  return asked(twin) === asked(request) ? null : twin
}

/** Where the answer about a secret differs from the one about nothing. */
export function compareTwins(
  secretly: FuzzAnswer,
  absently: FuzzAnswer,
  secrets: Map<string, string>,
): string[] {
  const plain = ({ status, headers, body }: FuzzAnswer) => {
    const id = headers.get('x-request-id') ?? ''
    let text = [
      status,
      ...[...headers].filter(([name]) => name !== 'etag').map((pair) => pair.join(': ')),
      body,
    ].join('\n')
    if (id !== '') text = text.replaceAll(id, 'ID')
    for (const [secret, absent] of secrets)
      for (const code of [String, encodeURIComponent, htmlCoded])
        text = text.replaceAll(code(secret), 'X').replaceAll(code(absent), 'X')
    // A digest that the server computed of what was sent, or its beginning; what it must not tell is looked for elsewhere.
    // Refusals repeat what was sent, up to a length.
    return text
      .replaceAll(/(sha256:)?[0-9a-f]{8,64}/g, 'DIGEST')
      .replaceAll(/\S{0,90}\.\.\./g, '...')
  }
  const [a, b] = [plain(secretly), plain(absently)]
  return a === b
    ? []
    : [`told apart from what does not exist:\n${a.slice(0, 400)}\n-- and --\n${b.slice(0, 400)}`]
}
const htmlCoded = (text: string): string => text.replaceAll('/', '&#x2F;')
