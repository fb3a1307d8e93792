import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'

const PARTS = { lora_a: 'a', lora_b: 'b', m: 'm' } as const
type Part = (typeof PARTS)[keyof typeof PARTS]

/** Source keys of one adapted module. */
export interface MlxModule {
  path: string
  keys: Partial<Record<Part, string>>
}

/** @returns modules in the order of their first key; keys of other names are left out */
export function groupKeys(keys: readonly string[]): MlxModule[] {
  const modules = new Map<string, MlxModule>()
  for (const key of keys) {
    const [, path, name] = /^(.+)\.(lora_a|lora_b|m)$/.exec(key) ?? []
    if (path === undefined) continue
    const module = modules.get(path) ?? { path, keys: {} }
    module.keys[PARTS[name as keyof typeof PARTS]] = key
    modules.set(path, module)
  }
  return [...modules.values()]
}

/** The block that a path lies in, its number and the path inside; null outside of blocks. */
export function inBlock(path: string): { list: string; layer: number; inner: string } | null {
  const [, list, layer, inner] = /^(.+?)\.(\d+)\.(.+)$/.exec(path) ?? []
  return list === undefined || inner === undefined ? null : { list, layer: Number(layer), inner }
}

/** How many blocks the base has beside one that lies at this path. */
export function countBlocks(sites: BaseSites, list: string): number {
  let count = 0
  while (sites.has(`${list}.${count}`)) count++
  return count
}

/**
 * Which modules mlx-lm adapts before it loads the weights (linear_to_lora_layers): in the last `layers` blocks, all of
 * them for 0 and less, those of `keys` by their path inside the block; anywhere those of `keys` by their whole path.
 */
export function isWrapped(
  path: string,
  blocks: number,
  { keys, layers }: { keys: readonly string[] | null; layers: number },
): boolean {
  if (keys?.includes(path)) return true
  const place = inBlock(path)
  if (place === null) return false
  const last = layers <= 0 || place.layer >= blocks - layers
  return last && (keys === null || keys.includes(place.inner))
}

/** The base's path of an mlx-lm module. @throws ERR_TENSOR_UNMATCHED */
export function siteOf(sites: BaseSites, path: string, key: string): string {
  const site = sites.resolve(path)
  if (site !== null) return site
  throw new GraftError(
    'ERR_TENSOR_UNMATCHED',
    `tensor ${key} belongs to module ${path}, which the base does not have; the adapter was trained on another base, or on one whose modules mlx-lm renames (then import it on the checkpoint that mlx_lm.convert wrote)`,
  )
}
