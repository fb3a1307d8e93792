import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { Replace } from '@graft/sdk/format/operations.ts'
import type { Collector, CompiledPart } from '../compiled.ts'
import { siteOf } from './modules.ts'

/** Families whose checkpoints hold linears as [in, out], where mlx-lm has [out, in]. */
const CONV1D = new Set(['gpt2', 'openai-gpt'])

/** fine_tune_type "full": whole tensors instead of the base's. */
export function compileFull(
  collector: Collector,
  sites: BaseSites,
  modelType: string,
): CompiledPart {
  if (CONV1D.has(modelType))
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `fine_tune_type "full" of ${modelType}: mlx-lm holds its linears transposed, so whole weights would not fit. Train LoRA`,
    )
  const operations: Replace[] = []
  for (const key of collector.keys) {
    const [, path, param] = /^(.+)\.(weight|bias)$/.exec(key) ?? []
    if (path === undefined || (param !== 'weight' && param !== 'bias')) continue
    const site = siteOf(sites, path, key)
    const want = sites.shape(`${site}.${param}`)
    const { shape } = collector.peek(key)!
    if (want === null || want.join() !== shape.join())
      throw new GraftError(
        want === null ? 'ERR_TENSOR_UNMATCHED' : 'ERR_TENSOR_SHAPE',
        expected(`tensor ${key}`, `[${want ?? 'absent'}] as in the base`, shape),
      )
    const value = collector.take(key, site, `full.${param === 'weight' ? 'w' : 'b'}`)
    const op: Replace = { op: 'replace', site, param, shape, slots: { value } }
    operations.push(op)
    // A tied head is the embedding itself there.
    if (sites.tiedHead !== null && sites.embedding(site) !== null)
      operations.push({ ...op, site: sites.tiedHead })
  }
  return { family: 'full', flags: [], operations, training: {} }
}
