import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { isPackageName } from '@graft/sdk/format/parse-reference.ts'
import type { RegistryContext } from './context.ts'

/** Of a path with `/:scope/:name`. @throws ERR_REFERENCE_INVALID */
export function packageName(c: RegistryContext): string {
  const name = `${c.req.param('scope')}/${c.req.param('name')}`
  if (isPackageName(name)) return name
  throw new GraftError('ERR_REFERENCE_INVALID', expected('package', '@scope/name', name))
}
