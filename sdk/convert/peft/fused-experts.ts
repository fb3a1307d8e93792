import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import type { LowRank } from '@graft/sdk/format/operations.ts'
import { rowsOf } from '@graft/sdk/format/tensor-source.ts'
import { type Block, blockTransform, cutBlock } from '../blocks.ts'
import type { AdaptedParameter } from './adapted-parameter.ts'
import { checkFactors, factorShapes, type LoraContext } from './lora-modules.ts'

/** Parameters that transformers 5 makes of the experts' separate linear layers, and those layers in the files. */
const FUSED: readonly Readonly<Record<string, readonly string[]>>[] = [
  { gate_up_proj: ['w1', 'w3'], down_proj: ['w2'] },
  { gate_up_proj: ['gate_proj', 'up_proj'], down_proj: ['down_proj'] },
]

/** The linear layers of expert 0 in the base's files that a fused parameter stands for; null where there are none. */
export function fusedLayers(
  sites: BaseSites,
  site: string,
  name: string,
): readonly string[] | null {
  const found = FUSED.find((row) =>
    row[name]?.every((part) => sites.linear(`${site}.0.${part}`) !== null),
  )
  return found?.[name] ?? null
}

/** An update of stacked experts on a base whose files hold them apart: one operation for each linear layer. */
export function compileFused(
  context: LoraContext,
  { path, name, site, keys }: AdaptedParameter,
  layers: readonly string[],
): LowRank[] {
  const { collector, sites, settings } = context
  let experts = 0
  while (sites.linear(`${site}.${experts}.${layers[0]}`) !== null) experts++
  const { in: inside, out } = sites.linear(`${site}.0.${layers[0]}`)!
  const { a, b } = factorShapes(context, path, [keys.A, keys.B])
  const rank = settings.rankOf(`${path}.${name}`)
  const ranks = [a[0]! / experts, b[1]! / experts]
  const place = { in: inside, out: out * layers.length }
  checkFactors(`${path}.${name}`, rank, { ranks, in: a[1], out: b[0] }, place)
  const scale = settings.scaleOf(`${path}.${name}`, rank)
  const [sourceA, sourceB] = [collector.peek(keys.A!)!, collector.peek(keys.B!)!]
  return Array.from({ length: experts }, (_, e) => e).flatMap((e) => {
    const rows: Block = {
      view: [experts, rank, inside],
      begin: [e, 0, 0],
      end: [e + 1, rank, inside],
      axes: [0, 1, 2],
    }
    const own = rowsOf(sourceA, e * rank, (e + 1) * rank)
    const first = `${site}.${e}.${layers[0]}`
    // All layers of the parameter read one A.
    const A = collector.add(keys.A!, first, 'lora.A', own, blockTransform(rows, a))
    return layers.map((layer, i): LowRank => {
      const block: Block = {
        view: [place.out, rank, experts],
        begin: [i * out, 0, e],
        end: [(i + 1) * out, rank, e + 1],
        axes: [2, 0, 1],
      }
      const linear = `${site}.${e}.${layer}`
      const tensor = cutBlock(sourceB, block, [out, rank])
      const B = collector.add(keys.B!, linear, 'lora.B', tensor, blockTransform(block, b))
      return { op: 'low_rank', site: linear, in: inside, out, rank, scale, slots: { A, B } }
    })
  })
}
