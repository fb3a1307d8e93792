import type { LinearSite } from '@graft/sdk/format/base-sites.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { Work } from './work.ts'

/** @throws ERR_TENSOR_SHAPE when the source has the tensor in another shape */
export function expectShape({ collector }: Work, key: string, want: readonly number[]): void {
  const got = collector.peek(key)?.shape
  if (got !== undefined && got.join() !== want.join())
    throw new GraftError(
      'ERR_TENSOR_SHAPE',
      expected(`tensor ${key}`, `[${want}] as config and base say`, got),
    )
}

/** The layer under an adapted module. @throws ERR_TENSOR_UNMATCHED */
export function linearAt({ sites }: Work, site: string): LinearSite {
  const linear = sites.linear(site)
  if (linear !== null) return linear
  throw new GraftError(
    'ERR_TENSOR_UNMATCHED',
    `the config adapts ${site}, which the base does not have; the adapter was trained on another base`,
  )
}
