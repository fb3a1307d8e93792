import { groupOperations, siteRanges } from '@graft/registry/pages/operation-groups.ts'
import type { Operation } from '@graft/sdk/format/operations.ts'
import { expect, it } from 'vitest'

it('writes the layers of a module as ranges, and leaves other sites as they are', () => {
  const q = [0, 1, 2, 5, 10, 11].map((i) => `model.layers.${i}.self_attn.q_proj`)
  expect(siteRanges([...q.toReversed(), 'model.layers.7.mlp.up_proj', 'lm_head'])).toEqual([
    'model.layers.0-2,5,10-11.self_attn.q_proj',
    'model.layers.7.mlp.up_proj',
    'lm_head',
  ])
})

it('counts operations that differ only in their place as one group', () => {
  const low = (site: string, rank: number): Operation => ({
    ...{ op: 'low_rank', site, in: 8, out: 8, rank, scale: '2' },
    slots: { A: `${site}::A`, B: `${site}::B` },
  })
  const operations: Operation[] = [
    low('layers.0.q', 8),
    low('layers.1.q', 8),
    low('layers.1.v', 16),
    { op: 'scale', site: 'layers.0.k', side: 'output', size: 8, slots: { l: 'l' } },
  ]
  expect(groupOperations(operations)).toEqual([
    { op: 'low_rank', size: 'rank 8, scale 2', sites: ['layers.0-1.q'], count: 2 },
    { op: 'low_rank', size: 'rank 16, scale 2', sites: ['layers.1.v'], count: 1 },
    { op: 'scale', size: 'on the output, 8 values', sites: ['layers.0.k'], count: 1 },
  ])
})
