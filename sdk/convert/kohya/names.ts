import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { sgmName } from './sgm-names.ts'

/**
 * Prefixes of module names and where such a module may stand in a base: in a component's folder of a diffusers pipeline,
 * under a checkpoint's own prefix, or, with '', anywhere (the base is that component alone, or a language model).
 */
const PREFIXES: Record<string, readonly string[]> = {
  lora_unet_: ['unet', 'transformer', 'model.diffusion_model', ''],
  lora_te_: ['text_encoder', 'cond_stage_model.transformer', ''],
  lora_te1_: ['text_encoder', 'conditioner.embedders.0.transformer', ''],
  lora_te2_: ['text_encoder_2', ''],
  lora_te3_: ['text_encoder_3', ''],
  lycoris_: ['unet', 'transformer', 'model.diffusion_model', ''],
}

const prefixOf = (name: string): string | null =>
  Object.keys(PREFIXES).find((prefix) => name.startsWith(prefix)) ?? null

/** Keys of Kohya's sd-scripts and of LyCORIS: a module's path with "_" for ".", then its slot. */
export const isKohyaKey = (key: string): boolean => prefixOf(key) !== null

export const flat = (path: string): string => path.replaceAll('.', '_')

/** Adds the modules of a component by the names a tool may have given them, relative to the component. */
function addModules(index: Map<string, Set<string>>, sites: BaseSites, folder: string): void {
  const within = folder === '' ? '' : `${folder}.`
  const has = (path: string): boolean => sites.has(within + path)
  const add = (name: string, path: string) =>
    index.set(flat(name), (index.get(flat(name)) ?? new Set()).add(path))
  let perLevel = 0
  while (has(`down_blocks.0.resnets.${perLevel}`)) perLevel++
  for (const path of sites.modules) {
    if (!path.startsWith(within) || (sites.shape(`${path}.weight`)?.length ?? 0) < 2) continue
    const name = path.slice(within.length)
    add(name, path)
    // A tool that loaded the inner class names modules without the outer one's attribute.
    const inner = /^(?:model|transformer)\.(.+)$/.exec(name)?.[1]
    if (inner !== undefined && folder === '') add(inner, path)
    const sgm = perLevel > 0 ? sgmName(name, perLevel, has) : null
    if (sgm !== null) add(sgm, path)
  }
}

/** Undoes "." -> "_" by the list of the base's modules, the only way there is. */
export function createNames(sites: BaseSites): (name: string, key: string) => string {
  const indices = new Map<string, Map<string, Set<string>>>()
  const index = (prefix: string): Map<string, Set<string>> => {
    const known = indices.get(prefix)
    if (known) return known
    const made = new Map<string, Set<string>>()
    for (const folder of PREFIXES[prefix]!)
      if (folder === '' || sites.has(folder)) addModules(made, sites, folder)
    indices.set(prefix, made)
    return made
  }
  return (name, key) => {
    const prefix = prefixOf(name) ?? ''
    const found = [...(index(prefix).get(name.slice(prefix.length)) ?? [])]
    if (found.length === 1) return found[0]!
    const folders = PREFIXES[prefix]!.filter((folder) => folder !== '')
    const partial = sites.has('unet') || sites.has('transformer.transformer_blocks')
    const why =
      partial && !folders.some((folder) => sites.has(folder))
        ? `the base that was given has no ${folders[0]}: give the folder of the whole pipeline`
        : 'the adapter was trained on another base'
    throw new GraftError(
      'ERR_TENSOR_UNMATCHED',
      found.length === 0
        ? `tensor ${key}: no module of the base is called ${name.slice(prefix.length)} once "." is written "_"; ${why}`
        : `tensor ${key}: ${found.join(' and ')} are both called ${name} once "." is written "_"; only a file with dotted names (diffusers, PEFT) can tell them apart`,
    )
  }
}
