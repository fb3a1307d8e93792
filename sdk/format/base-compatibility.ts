import type { BaseTensor } from './base-identity.ts'
import { createBaseSites } from './base-sites.ts'
import { checkSite } from './check-sites.ts'
import { type ErrorCode, isGraftError } from './errors.ts'
import type { BaseIdentity, Manifest } from './manifest.ts'

/**
 * `compatible`: the very bytes that the adapter was made for. `shape-only`: every site is there in its size, but the base
 * holds other bytes (a fine-tune, another precision, other shards): what comes out is not proven. `incompatible`: some site
 * is absent or of another size.
 */
export interface Compatibility {
  status: 'compatible' | 'shape-only' | 'incompatible'
  /** What differs, in words; the failing modules first. */
  reasons: { site: string | null; code: ErrorCode | null; what: string }[]
}

/** Failing modules that are listed; the rest is counted. */
const LISTED = 8

function differences(made: BaseIdentity, given: BaseIdentity): string[] {
  const files = (base: BaseIdentity) => base.files.map((file) => file.sha256).sort()
  const found: [boolean, string][] = [
    [files(made).join() !== files(given).join(), 'the weight files hold other bytes'],
    [made.structure !== given.structure, 'tensors have other names or shapes'],
    [
      made.structure === given.structure && made.structureWithDtype !== given.structureWithDtype,
      'tensors have other dtypes',
    ],
    [made.configDigest !== given.configDigest, 'config.json differs'],
    [made.tokenizerDigest !== given.tokenizerDigest, 'the tokenizer differs'],
    [
      made.architecture !== given.architecture,
      `the base is ${given.architecture}, the adapter is for ${made.architecture}`,
    ],
  ]
  return found.filter(([differs]) => differs).map(([, what]) => what)
}

/** Whether an adapter fits a base, from the base's headers alone. */
export function compareBase(
  { base: made, operations }: Pick<Manifest, 'base' | 'operations'>,
  given: { identity: BaseIdentity; tensors: readonly BaseTensor[] },
): Compatibility {
  const sites = createBaseSites(given.tensors, given.identity.modelType)
  const failing: Compatibility['reasons'] = []
  for (const op of operations)
    try {
      checkSite(op, sites)
    } catch (e) {
      if (!isGraftError(e)) throw e
      failing.push({ site: op.site, code: e.code, what: e.message })
    }
  const rest = failing.length - LISTED
  const more = rest > 0 ? [{ site: null, code: null, what: `and ${rest} more modules` }] : []
  const differing = differences(made, given.identity).map((what) => ({
    site: null,
    code: null,
    what,
  }))
  if (failing.length > 0)
    return {
      status: 'incompatible',
      reasons: [...failing.slice(0, LISTED), ...more, ...differing],
    }
  return { status: differing.length === 0 ? 'compatible' : 'shape-only', reasons: differing }
}
