import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { isVersion } from '@graft/sdk/format/semver.ts'
import { Hono } from 'hono'
import * as z from 'zod'
import type { RegistryDeps } from '../deps.ts'
import { readJson } from '../http/body.ts'
import type { RegistryContext, RegistryEnv } from '../http/context.ts'
import { packageName } from '../http/package-name.ts'
import { authenticate } from '../identity/authenticate.ts'
import { changeState, type StateChange } from '../packages/change-state.ts'

/** One line for people, shown wherever the version is. */
const text = z
  .string()
  .trim()
  .min(1)
  .max(500)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: terminals obey them, so none may get there
  .regex(/^[^\u0000-\u001f\u007f-\u009f]*$/, 'must be one line without control characters')
const reasonSchema = z.strictObject({ reason: text })
const messageSchema = z.strictObject({ message: text })

const VERSION = '/v1/packages/:scope/:name/versions/:version'

function versionOf(c: RegistryContext): string {
  const version = c.req.param('version')
  if (isVersion(version)) return version
  throw new GraftError('ERR_REFERENCE_INVALID', expected('version', 'x.y.z', version))
}

/** Yank, deprecate and tombstone a version: what may be said of it once it is out. */
export const versionStateRoutes = (deps: RegistryDeps) => {
  const change = async (c: RegistryContext, read: () => Promise<StateChange>) => {
    const caller = await authenticate(deps, c)
    const [name, version] = [packageName(c), versionOf(c)]
    return c.json(await changeState(deps, caller, name, version, await read()), 200, {
      'cache-control': 'no-store',
    })
  }
  const reason = async (c: RegistryContext) =>
    (await readJson(c, reasonSchema, deps.limits.json)).reason
  return new Hono<RegistryEnv>()
    .put(`${VERSION}/yank`, (c) => change(c, async () => ({ yank: await reason(c) })))
    .delete(`${VERSION}/yank`, (c) => change(c, async () => ({ yank: null })))
    .put(`${VERSION}/deprecation`, (c) =>
      change(c, async () => ({
        deprecate: (await readJson(c, messageSchema, deps.limits.json)).message,
      })),
    )
    .delete(`${VERSION}/deprecation`, (c) => change(c, async () => ({ deprecate: null })))
    .put(`${VERSION}/tombstone`, (c) => change(c, async () => ({ tombstone: await reason(c) })))
}
