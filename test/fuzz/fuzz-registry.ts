import type { LogRecord } from '@graft/registry/deps.ts'
import { type App, furnish, type House } from '../registry/fixtures.ts'
import type { World } from './forms.ts'
import { compareTwins, type FuzzAnswer, findLeaks, judgeShape, textOf, twinOf } from './judge.ts'
import { seededRandom } from './random.ts'
import { type FuzzRequest, makeRequest } from './requests.ts'
import type { Route } from './routes.ts'
import { bytesOf, openTenant, secretsOf, type Tenant, unsaidOf } from './tenants.ts'

export interface FuzzReport {
  seed: number
  requests: number
  /** Requests that named a secret and were sent again about what does not exist. */
  compared: number
  routes: number
  /** Secrets that were still looked for in answers at the end: not those that the attacker had kept for them. */
  unsaid: number
  /** Routes that no request was let through to the end of. */
  neverTaken: string[]
  statuses: Record<string, number>
  slowest: { ms: number; request: string }[]
  /** What broke a promise, with the request; empty when all is well. */
  broken: string[]
}

export interface FuzzOptions {
  seed: number
  requests: number
  /** Milliseconds for one answer. */
  slow: number
  /** Bytes of a body that the way to the server can be trusted to carry when it is refused unread. @default any */
  maxBody?: number
  /** What the server wrote of its own defects since it was last asked. */
  defects?: () => LogRecord[]
}

/** Broken promises after which a run ends. The same one of the same route counts once. */
const MAX_BROKEN = 20

/** Asking twice is answered differently: RFC 8628 section 3.5 slows down who polls. */
const REMEMBERS = /^\/+oauth\/token/

/** Sends requests to every route, `routes` in turn, and judges each answer. */
export async function fuzzRegistry(
  app: { request: App['request'] },
  routes: readonly Route[],
  { seed, requests, slow, maxBody = Number.POSITIVE_INFINITY, defects = () => [] }: FuzzOptions,
): Promise<FuzzReport> {
  const random = seededRandom(seed)
  const house = await furnish(app)
  const victim = await openTenant(house, 'vault', 1000)
  let attackers = 0
  const newAttacker = () => openTenant(house, `mallory-${++attackers}`, 2000 + 100 * attackers)
  const { base, token: operator } = house
  let world: World = { victim, attacker: await newAttacker(), base, operator }
  const secrets = secretsOf(victim)
  const words = new Set([...secrets.keys(), unsaidOf(victim.org), victim.token.slice(-40)])
  const bytes = bytesOf(victim)
  const before = await everythingOf(house, victim)

  const report: FuzzReport = {
    ...{ seed, requests: 0, compared: 0, routes: routes.length, unsaid: 0 },
    ...{ neverTaken: [], statuses: {}, slowest: [], broken: [] },
  }
  const taken = new Set<Route>()
  const kinds = new Set<string>()
  const send = async (request: FuzzRequest): Promise<FuzzAnswer> => {
    const { method, path, headers, body } = request
    const start = performance.now()
    const response = await app.request(path, { method, headers, body, redirect: 'manual' })
    const got = Buffer.from(await response.arrayBuffer()).toString('latin1')
    const ms = performance.now() - start
    const answer = { status: response.status, headers: response.headers, body: got, ms }
    report.requests++
    report.statuses[answer.status] = (report.statuses[answer.status] ?? 0) + 1
    report.slowest.push({ ms: Math.round(ms), request: nameOf(request) })
    report.slowest.sort((a, b) => b.ms - a.ms).splice(3)
    return answer
  }
  const judge = (request: FuzzRequest, answer: FuzzAnswer, wrong: string[]) => {
    const late = answer.ms > slow ? [`an answer after ${Math.round(answer.ms)} ms`] : []
    const why = defects().map(({ error }) => (error instanceof Error ? error.stack : String(error)))
    for (const what of [...judgeShape(request, answer), ...late, ...wrong]) {
      const kind = `${request.route.method} ${request.route.path} ${what.slice(0, 30)}`
      if (kinds.has(kind)) continue
      kinds.add(kind)
      report.broken.push([nameOf(request), what, ...why].join('\n  '))
    }
  }

  // What can tell of things is asked oftener than what changes them.
  const tells = ({ method, path }: Route) =>
    method === 'GET' && /:|resolve|packages|search/.test(path)
  const turns = routes.flatMap((route) => (tells(route) ? [route, route, route] : [route]))
  for (let i = 0; report.requests < requests && report.broken.length < MAX_BROKEN; i++) {
    const route = turns[i % turns.length]!
    const request = makeRequest(random, route, world)
    if ((request.body?.length ?? 0) > maxBody) continue
    const answer = await send(request)
    if (answer.status < 400 && request.method === route.method) taken.add(route)
    const told = request.as === 'victim' ? [] : findLeaks(request, answer, words, bytes)
    judge(
      request,
      answer,
      told.map((what) => `tells a stranger ${what}`),
    )
    const twin = request.as === 'victim' ? null : twinOf(request, secrets)
    const changes = !['GET', 'HEAD', 'get'].includes(request.method) && answer.status < 400
    if (twin !== null && !changes && !REMEMBERS.test(request.path)) {
      const other = await send(twin)
      judge(twin, other, compareTwins(answer, other, secrets))
      report.compared++
    }
    // Who had a word kept may read it again.
    if (changes && request.method !== 'DELETE') {
      const kept = textOf({ ...request, path: request.path.split('?', 1)[0]!, headers: {} })
      for (const word of words) if (kept.includes(word)) words.delete(word)
    }
    if (changes && !(await lives(house, world.attacker)))
      world = { ...world, attacker: await newAttacker() }
  }
  if ((await everythingOf(house, victim)) !== before)
    report.broken.push('what the victim has is no longer what it was')
  report.unsaid = words.size
  report.neverTaken = routes.filter((r) => !taken.has(r)).map((r) => `${r.method} ${r.path}`)
  return report
}

function nameOf(request: FuzzRequest): string {
  const { method, path, headers, body, as } = request
  const text = body === null ? '' : ` ${Buffer.from(body).toString('latin1').slice(0, 300)}`
  const sent = Object.entries(headers).map(([name, value]) => `${name}: ${value.slice(0, 120)}`)
  return `${method} ${path.slice(0, 300)} (${as ?? 'nobody'}; ${sent.join('; ')})${text}`
}

/** Whether the attacker still has what makes an attack worth its name. */
async function lives({ call }: House, { token, narrow, session }: Tenant): Promise<boolean> {
  for (const one of [token, ...narrow])
    if ((await call('GET', '/v1/whoami', { token: one })).status !== 200) return false
  const page = await call('GET', '/device', { headers: { cookie: session.cookie } })
  return new TextDecoder().decode(page.body).includes(session.formKey)
}

/** The victim's packages, tokens, members and bytes, as they themselves see them. */
async function everythingOf({ call }: House, { org, token, privately, upload }: Tenant) {
  const seen: unknown[] = []
  for (const path of [
    ...[`/v1/packages/@${org}/hidden`, `/v1/packages/@${org}/shown`, `/v1/publish/${upload}`],
    ...[`/v1/orgs/${org}/keys`, `/v1/orgs/${org}/members`, `/v1/orgs/${org}/invitations`],
    ...[`/v1/manifests/${privately.digest}`],
    ...[...privately.files.keys()].map((digest) => `/v1/blobs/${digest}`),
  ]) {
    const { status, body } = await call('GET', path, { token })
    if (status !== 200) throw new Error(`the victim cannot read ${path}: ${status}`)
    seen.push(body instanceof Uint8Array ? [...body] : body)
  }
  return JSON.stringify(seen)
}
