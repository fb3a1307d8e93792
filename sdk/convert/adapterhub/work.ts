import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Collector } from '../compiled.ts'
import type { ConfigReader } from '../config-keys.ts'
import type { ConfigObject } from '../source-format.ts'
import type { Family } from './families.ts'

/** What the compilers of all methods share. */
export interface Work {
  collector: Collector
  sites: BaseSites
  family: Family
  /** Paths of the base's blocks, by layer. */
  blocks: readonly string[]
  /** The adapter's name, which stands in its keys. */
  name: string
  hidden: number
  /** The base's config.json. */
  baseConfig: ConfigObject | undefined
  /** Source key of a path inside a block; where the file has none, the key that it should have. */
  keyIn(layer: number, path: string): string
}

/** Paths of the base's blocks. @throws ERR_ARCHITECTURE_UNSUPPORTED */
export function findBlocks(sites: BaseSites, family: Family): string[] {
  for (const prefix of family.prefixes) {
    const blocks: string[] = []
    const path = () => `${prefix}${family.blocks}.${blocks.length}`
    while (sites.has(`${path()}.${family.attention}`)) blocks.push(path())
    if (blocks.length > 0) return blocks
  }
  throw new GraftError(
    'ERR_ARCHITECTURE_UNSUPPORTED',
    `the base's blocks are not named as ${family.prefixes.map((prefix) => `${prefix}${family.blocks}.N.${family.attention}`).join(' or ')}`,
  )
}

/**
 * Finds keys by layer and path inside the block: the class that the adapter was saved from may name its blocks from
 * further outside, or from further inside, than the class that saved the base.
 */
export function keyFinder(keys: readonly string[], blocks: readonly string[], family: Family) {
  const tail = family.blocks.replaceAll('.', '\\.')
  const pattern = new RegExp(`^(?:[A-Za-z0-9_.]*?\\.)?${tail}\\.(\\d+)\\.(.+)$`)
  const inside = new Map<string, string>()
  for (const key of keys) {
    const [, layer, path] = pattern.exec(key) ?? []
    if (layer === undefined) continue
    const place = `${Number(layer)}.${path}`
    if (inside.has(place))
      throw new GraftError('ERR_TENSOR_UNMATCHED', `${inside.get(place)} and ${key} mean one place`)
    inside.set(place, key)
  }
  return (layer: number, path: string): string =>
    inside.get(`${layer}.${path}`) ?? `${blocks[layer]}.${path}`
}

/** Layers that the config adapts. @throws ERR_CONFIG_INVALID */
export function adaptedLayers({ blocks }: Work, config: ConfigReader): number[] {
  const left = config.value('leave_out') ?? []
  if (!Array.isArray(left)) return config.fail('leave_out', 'a list of layers')
  return [...blocks.keys()].filter((layer) => !left.includes(layer))
}
