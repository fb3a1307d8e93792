import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { Replace } from '@graft/sdk/format/operations.ts'
import type { Collector } from './compiled.ts'

/** A whole tensor instead of the base's, of exactly its shape. @throws ERR_TENSOR_UNMATCHED, ERR_TENSOR_SHAPE */
export function replaceWhole(
  collector: Collector,
  sites: BaseSites,
  key: string,
  site: string,
  param: 'weight' | 'bias',
): Replace {
  const want = sites.shape(`${site}.${param}`)
  if (want === null)
    throw new GraftError(
      'ERR_TENSOR_UNMATCHED',
      `tensor ${key} replaces ${site}.${param}, which the base does not have`,
    )
  const { shape } = collector.peek(key)!
  if (shape.join() !== want.join())
    throw new GraftError(
      'ERR_TENSOR_SHAPE',
      `${expected(`tensor ${key}`, `[${want}] as in the base`, shape)}; a resized vocabulary needs a base of that size`,
    )
  const value = collector.take(key, site, `full.${param === 'weight' ? 'w' : 'b'}`)
  return { op: 'replace', site, param, shape, slots: { value } }
}
