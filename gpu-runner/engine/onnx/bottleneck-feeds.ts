import { ownerOf } from '../bank/adapter-bank.ts'
import { GRAPH_ACTIVATIONS } from '../graph/activations.ts'
import {
  bottleneckKeys,
  NO_ORDER,
  ORDER_FLAGS,
  OWN_VECTORS,
  PLACEMENTS,
} from '../graph/bottleneck-keys.ts'
import type { AdapterRun, Feeds } from './adapter-run.ts'
import { flags, longs } from './ort.ts'

/** Inputs of a run's bottlenecks that are not plain; see graph/bottleneck-site.ts. */
export function bottleneckFeeds({ bank, rows, tokens, least, tables }: AdapterRun): Feeds {
  const { bottlenecks: region, bottleneckOwn: table, config } = bank
  const users = rows.flatMap((row, b) => {
    const term = row?.binding.terms[0]
    const bottleneck = term?.adapter.bottleneck
    return row && term && bottleneck ? [{ b, row, term, bottleneck }] : []
  })
  const on = users.length > 0
  const used = Math.max(region.used, on ? 0 : least)
  const all = rows.length * tokens
  const keys = bottleneckKeys(config)
  const mask = new Uint8Array(all * used)
  const constant = new Uint8Array(used)
  const entries = new BigInt64Array(all)
  const is = new Map(GRAPH_ACTIVATIONS.map((name) => [name, new Uint8Array(used)]))
  const orders = PLACEMENTS.flatMap((place) =>
    ORDER_FLAGS.map((flag) => ({
      place,
      flag,
      data: new Uint8Array(all).fill(NO_ORDER[flag] ? 1 : 0),
    })),
  )
  for (const { b, row, term, bottleneck } of users) {
    const at = region.offset(ownerOf(term))
    const [from, to] = [b * tokens, (b + 1) * tokens]
    constant[at] = 1
    is.get(bottleneck.activation)?.fill(1, at, at + bottleneck.rows)
    for (let t = from; t < to; t++) {
      mask.fill(1, t * used + at, t * used + at + bottleneck.rows)
      entries[t] = BigInt(row.binding.bottleneckEntry)
    }
    for (const { place, flag, data } of orders)
      data.fill((bottleneck.orders[place] ?? NO_ORDER)[flag] ? 1 : 0, from, to)
  }
  const feeds: Feeds = {
    'bottleneck.on': flags(Uint8Array.of(on ? 1 : 0), []),
    'bottleneck.entries': longs(entries, [all]),
    'bottleneck.mask': flags(mask, [all, used]),
    'bottleneck.constant': flags(constant, [1, used]),
    'bottleneck.calls': longs(BigInt64Array.of(-1n, BigInt(tokens)), [2]),
    'bottleneck.spread': longs(BigInt64Array.of(1n, BigInt(tokens)), [2]),
    'bottleneck.own': tables.rows(table, 'bottleneck.own', { first: 0, count: table.used }, [
      table.used,
      keys.length,
      OWN_VECTORS.length * config.hidden,
    ]),
  }
  for (const [name, data] of is) {
    feeds[`bottleneck.is_${name}`] = flags(data, [1, used])
    feeds[`bottleneck.uses_${name}`] = flags(
      Uint8Array.of(users.some(({ bottleneck }) => bottleneck.activation === name) ? 1 : 0),
      [],
    )
  }
  for (const { place, flag, data } of orders)
    feeds[`bottleneck.${place}.${flag}`] = flags(data, [all, 1])
  for (const key of region.keys()) {
    const width = region.width(key)
    const dims = width === 1 ? [used] : [used, width]
    feeds[key] = tables.rows(region, key, { first: 0, count: used }, dims)
  }
  return feeds
}
