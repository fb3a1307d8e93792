import type { Activation } from '@graft/sdk/format/operations.ts'
import type { ModelConfig } from '../../checkpoint/model-config.ts'
import { activationOfSaturating, SATURATING } from '../graph/activations.ts'
import { isPlain, PLACEMENTS, type Placement } from '../graph/bottleneck-keys.ts'
import { bottleneckTables } from '../graph/bottleneck-pages.ts'
import { PAGE_RANK } from '../graph/low-rank-pages.ts'
import type { CompiledBottleneck, PlainBottleneck } from './compiled-adapter.ts'

/** Packs a bottleneck into pages; null where norms, gates or residuals of its own ask for more. */
export function plainBottleneck(
  { activation, orders, sites, rows }: CompiledBottleneck,
  config: ModelConfig,
): PlainBottleneck | null {
  if (Object.values(orders).some((order) => !isPlain(order))) return null
  const places: PlainBottleneck['places'] = new Map()
  const count = Math.ceil(rows / PAGE_RANK)
  for (const place of PLACEMENTS) {
    const order = orders[place]
    if (!order) continue
    const reads = order.reads_stream ? 'stream' : order.reads_sum ? 'sum' : 'output'
    const tables = new Map<string, Float32Array>()
    for (const [key, site] of sites)
      if (placeOf(key) === place)
        for (const [table, values] of packSite(
          key,
          withBias(site, activation),
          count,
          config.hidden,
        ))
          tables.set(table, values)
    places.set(place, { reads, count, tables })
  }
  return { activation, places }
}

const placeOf = (key: string): Placement => key.slice(key.lastIndexOf(':') + 1) as Placement

type Site = CompiledBottleneck['sites'] extends Map<string, infer S> ? S : never

/** Makes row 0, which holds the bias of U, one whose activation needs no choice. */
function withBias({ down, downBias, up }: Site, activation: Activation): Site {
  const [bias, scaled] = [downBias.slice(), up.slice()]
  bias[0] = SATURATING
  const hidden = up.length / downBias.length
  for (let i = 0; i < hidden; i++) scaled[i]! /= activationOfSaturating(activation)
  return { down, downBias: bias, up: scaled }
}

/** Down [rows,hidden] becomes pages [hidden,rank]; up and bias stand row by row already. */
function packSite(
  key: string,
  { down, downBias, up }: Site,
  count: number,
  hidden: number,
): [table: string, values: Float32Array][] {
  const [downTable, biasTable, upTable] = bottleneckTables(key, hidden).map(
    ([table, floats]) => [table, new Float32Array(count * floats)] as [string, Float32Array],
  ) as [[string, Float32Array], [string, Float32Array], [string, Float32Array]]
  for (let row = 0; row < downBias.length; row++) {
    const page = Math.floor(row / PAGE_RANK) * hidden * PAGE_RANK + (row % PAGE_RANK)
    for (let i = 0; i < hidden; i++) downTable[1][page + i * PAGE_RANK] = down[row * hidden + i]!
  }
  biasTable[1].set(downBias)
  upTable[1].set(up)
  return [downTable, biasTable, upTable]
}
