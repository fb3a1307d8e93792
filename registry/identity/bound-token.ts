import { GraftError } from '@graft/sdk/format/errors.ts'
import type { RegistryDeps } from '../deps.ts'
import type { RegistryContext } from '../http/context.ts'
import { first } from '../stores/catalogue.ts'

/**
 * What a token of trusted publishing is good for, said in one place: publishing its package, moving that package's tags,
 * and asking whose it is. Whatever is added to the registry later is closed to it.
 * @throws ERR_FORBIDDEN
 */
export async function assertBound(
  deps: RegistryDeps,
  c: RegistryContext,
  name: string,
): Promise<void> {
  const { method, path } = c.req
  if (method === 'GET' && path === '/v1/whoami') return
  // Which package the manifest names is checked where it is parsed.
  if (method === 'POST' && path === '/v1/publish') return
  const upload = /^\/v1\/publish\/([^/]+)(?:\/|$)/.exec(path)?.[1]
  if (upload !== undefined) {
    const row = await first<{ package: string }>(
      deps.catalogue,
      'SELECT package FROM uploads WHERE id = ?',
      upload,
    )
    if (row?.package === name) return
  }
  if (method === 'PUT' && path.startsWith(`/v1/packages/${name}/tags/`)) return
  throw new GraftError('ERR_FORBIDDEN', `the token publishes ${name} and does nothing else`)
}
