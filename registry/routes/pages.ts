import { type Digest, isDigest } from '@graft/sdk/format/digest.ts'
import { errorResponse, expected, GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import { isPackageName } from '@graft/sdk/format/parse-reference.ts'
import type { LogProof } from '@graft/sdk/protocol/log.ts'
import { Hono } from 'hono'
import type { RegistryDeps } from '../deps.ts'
import { readQuery } from '../http/body.ts'
import type { RegistryContext, RegistryEnv } from '../http/context.ts'
import { ANYBODY } from '../identity/authenticate.ts'
import { listPublisherKeys } from '../identity/publisher-keys.ts'
import { proveVersion } from '../log/prove-version.ts'
import { browsePackages, EVERYTHING, type Question } from '../packages/browse.ts'
import { describeVersion } from '../packages/describe-version.ts'
import {
  countBases,
  countFamilies,
  findBaseIdentity,
  listSameStructure,
} from '../packages/facets.ts'
import { packageUnknown, readPackage } from '../packages/versions.ts'
import { basePage } from '../pages/base-page.ts'
import { formatCursor, parseCursor } from '../pages/cursor.ts'
import { errorPage, notFoundPage } from '../pages/error-page.ts'
import { basesPage, homePage } from '../pages/home.ts'
import { ICON } from '../pages/layout.ts'
import { ownerPage } from '../pages/owner-page.ts'
import { packagePage, versionsPage } from '../pages/package-page.ts'
import { pageResponse } from '../pages/respond.ts'
import { searchPage } from '../pages/search-page.ts'

const PAGE_ROWS = 20
const HOME_ROWS = 8
const VERSION_ROWS = 100
const SEARCH_FILTERS = ['q', 'base', 'method', 'keyword', 'sort'] as const

/** For browsers: what anybody may see. A token sent along changes nothing, so that any cache may keep them. */
export const pageRoutes = (deps: RegistryDeps) =>
  new Hono<RegistryEnv>()
    .onError((e, c) => failurePage(c, e))
    .get('/', async (c) => {
      readQuery(c, [])
      const recent = await browsePackages(deps, ANYBODY, { ...EVERYTHING, limit: HOME_ROWS })
      const bases = await countBases(deps, ANYBODY)
      return pageResponse(c, homePage(recent, bases.slice(0, HOME_ROWS)))
    })
    .get('/icon.svg', (c) =>
      c.body(ICON, 200, {
        'content-type': 'image/svg+xml',
        'content-security-policy': "default-src 'none'",
        'cache-control': 'public, max-age=86400',
      }),
    )
    .get('/search', async (c) => search(deps, c))
    .get('/bases', async (c) => {
      readQuery(c, [])
      return pageResponse(c, basesPage(await countBases(deps, ANYBODY)))
    })
    .get('/bases/:digest', async (c) => {
      const digest = c.req.param('digest')
      const identity = isDigest(digest) ? await findBaseIdentity(deps, digest) : null
      if (!isDigest(digest) || identity === null)
        throw new GraftError('ERR_BASE_UNKNOWN', `no base ${digest} is registered here`)
      const { rows, next } = await listPage(deps, c, { base: digest })
      const alike = await listSameStructure(deps, { digest, structure: identity.structure })
      return pageResponse(c, basePage({ digest, identity, alike, rows, next }))
    })
    .get('/:scope{@[^/]+}', async (c) => {
      const org = c.req.param('scope').slice(1)
      const { rows, next } = await listPage(deps, c, { org })
      // An organisation whose packages are all private is not told from one that does not exist.
      if (rows.length === 0)
        throw new GraftError('ERR_NAME_UNKNOWN', `@${org} has published nothing here for everybody`)
      return pageResponse(c, ownerPage(org, rows, await listPublisherKeys(deps, org), next))
    })
    .get('/:scope{@[^/]+}/:name', async (c) => {
      readQuery(c, [])
      return showPackage(deps, c, null)
    })
    .get('/:scope{@[^/]+}/:name/versions', async (c) => {
      const { from } = readQuery(c, ['from'])
      const record = await readPackage(deps, ANYBODY, nameOf(c))
      const begin = from ? record.versions.findIndex((row) => row.version === from) : 0
      if (begin < 0) throw versionUnknown(record.name, from!)
      const rows = record.versions.slice(begin, begin + VERSION_ROWS)
      const after = record.versions[begin + VERSION_ROWS]
      const next = after ? `${c.req.path}?from=${encodeURIComponent(after.version)}` : null
      return pageResponse(c, versionsPage(record, rows, next))
    })
    .get('/:scope{@[^/]+}/:name/v/:version', async (c) => {
      readQuery(c, [])
      return showPackage(deps, c, c.req.param('version'))
    })

const versionUnknown = (name: string, version: string): GraftError =>
  new GraftError('ERR_VERSION_UNKNOWN', `${name} has no version ${version}`)

function nameOf(c: RegistryContext): string {
  const name = `${c.req.param('scope')}/${c.req.param('name')}`
  if (!isPackageName(name)) throw packageUnknown(name)
  return name
}

async function search(deps: RegistryDeps, c: RegistryContext): Promise<Response> {
  const asked = readQuery(c, [...SEARCH_FILTERS, 'cursor'])
  const filters = {
    q: asked.q?.trim() ?? '',
    base: asked.base ?? '',
    method: asked.method ?? '',
    keyword: asked.keyword?.trim() ?? '',
    sort: asked.sort || 'updated',
  }
  if (filters.base !== '' && !isDigest(filters.base))
    throw new GraftError('ERR_REQUEST_INVALID', expected('query: base', 'a digest', filters.base))
  if (filters.sort !== 'updated' && filters.sort !== 'name')
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      expected('query: sort', '"updated" or "name"', filters.sort),
    )
  const { rows, next } = await listPage(deps, c, {
    words: filters.q || null,
    base: isDigest(filters.base) ? filters.base : null,
    family: filters.method || null,
    keyword: filters.keyword || null,
    order: filters.sort,
  })
  const [families, bases] = [await countFamilies(deps, ANYBODY), await countBases(deps, ANYBODY)]
  return pageResponse(c, searchPage({ filters, rows, families, bases, next }))
}

/** One page of packages from the address's cursor on, and the address of the next. */
async function listPage(deps: RegistryDeps, c: RegistryContext, question: Partial<Question>) {
  const query = readQuery(c, [...SEARCH_FILTERS, 'cursor'])
  const after = query.cursor ? parseCursor(query.cursor) : null
  const all = await browsePackages(deps, ANYBODY, {
    ...EVERYTHING,
    ...question,
    after,
    limit: PAGE_ROWS + 1,
  })
  const rows = all.slice(0, PAGE_ROWS)
  const params = new URLSearchParams(
    Object.entries(query).filter(([name, value]) => value !== '' && name !== 'cursor'),
  )
  params.set('cursor', rows.length > 0 ? formatCursor(rows.at(-1)!) : '')
  return { rows, next: all.length > PAGE_ROWS ? `${c.req.path}?${params}` : null }
}

/** @param version null: what `latest` names, or else the newest that may still be used */
async function showPackage(
  deps: RegistryDeps,
  c: RegistryContext,
  version: string | null,
): Promise<Response> {
  const record = await readPackage(deps, ANYBODY, nameOf(c))
  const { versions, tags } = record
  const wanted = version ?? tags['latest']
  const entry =
    versions.find((row) => row.version === wanted) ??
    (version === null
      ? (versions.find(({ state }) => !state?.yanked && !state?.tombstoned) ?? versions[0])
      : undefined)
  if (!entry) throw versionUnknown(record.name, version ?? 'latest')
  if (entry.state?.tombstoned)
    return pageResponse(c, packagePage({ record, entry, version: null, proof: null, alike: [] }))
  const shown = await describeVersion(deps, ANYBODY, entry.digest)
  const { digest } = entry.base
  const alike = await listSameStructure(deps, {
    digest,
    structure: shown.manifest.base.structure,
  })
  const proof = await findProof(deps, entry.digest)
  return pageResponse(c, packagePage({ record, entry, version: shown, proof, alike }))
}

/** Null while the version is still to be logged. */
const findProof = (deps: RegistryDeps, digest: Digest): Promise<LogProof | null> =>
  proveVersion(deps, digest).catch((e) => {
    if (isGraftError(e) && e.code === 'ERR_VERSION_UNKNOWN') return null
    throw e
  })

/** What went wrong, as a page; what is this server's own fault says no more than that. */
function failurePage(c: RegistryContext, e: unknown): Promise<Response> {
  const { status, body } = errorResponse(e, c.get('requestId'))
  const { code, message } = body.error
  // The API's words speak of a token, which pages never take.
  const what =
    code === 'ERR_PACKAGE_UNKNOWN' ? 'There is no such package, or it is private.' : message
  if (status === 404) return pageResponse(c, notFoundPage(what), 404)
  const title = status < 500 ? 'This cannot be shown' : 'Something went wrong'
  return pageResponse(c, errorPage(title, message, c.get('requestId')), status < 500 ? 400 : 500)
}
