import { isPackageName } from '@graft/sdk/format/parse-reference.ts'
import { Hono } from 'hono'
import type { RegistryDeps } from '../deps.ts'
import { readQuery } from '../http/body.ts'
import type { RegistryEnv } from '../http/context.ts'
import { ANYBODY } from '../identity/authenticate.ts'
import { searchPackages } from '../packages/search.ts'
import { packageUnknown, readPackage } from '../packages/versions.ts'
import { PAGE_HEADERS } from '../pages/layout.ts'
import { packageList } from '../pages/package-list.ts'
import { packagePage } from '../pages/package-page.ts'

/** For browsers: what anybody may see. A token sent along changes nothing. */
export const pageRoutes = (deps: RegistryDeps) =>
  new Hono<RegistryEnv>()
    .get('/', async (c) => {
      const words = readQuery(c, ['q']).q?.trim() ?? ''
      const packages = await searchPackages(deps, ANYBODY, { org: null, words: words || null })
      return c.html(packageList(packages, words), 200, PAGE_HEADERS)
    })
    .get('/:scope{@[^/]+}/:name', async (c) => {
      const name = `${c.req.param('scope')}/${c.req.param('name')}`
      if (!isPackageName(name)) throw packageUnknown(name)
      return c.html(packagePage(await readPackage(deps, ANYBODY, name)), 200, PAGE_HEADERS)
    })
