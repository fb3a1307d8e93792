import { GraftError } from '@graft/sdk/format/errors.ts'
import type { ConfigReader } from '../config-keys.ts'
import { fullMatch } from './python-pattern.ts'

/** Names match whole or after a dot; a text is one regular expression. */
export function matchesTargets(targets: string[] | string, path: string): boolean {
  if (typeof targets === 'string') return fullMatch(targets).test(path)
  return targets.some((name) => path === name || path.endsWith(`.${name}`))
}

/**
 * Whether modules_to_save names a module or one that it lies in. PEFT compares the ends of paths as texts: `norm` saves
 * `input_layernorm` too.
 */
export function isSaved(names: readonly string[], path: string): boolean {
  const parts = path.split('.')
  return parts.some((_, i) =>
    names.some(
      (name) =>
        name !== '' &&
        parts
          .slice(0, i + 1)
          .join('.')
          .endsWith(name),
    ),
  )
}

const LAYER = /.*?\.[^.]*\.(\d+)\./

function inLayers(config: ConfigReader, path: string): boolean {
  const layers = config.value('layers_to_transform')
  if (layers === null || (Array.isArray(layers) && layers.length === 0)) return true
  const found = LAYER.exec(path)?.[1]
  if (found === undefined) return false
  return Array.isArray(layers) ? layers.includes(Number(found)) : layers === Number(found)
}

/**
 * The config is evidence, the tensors are the truth: where they disagree about what is adapted, the file is
 * damaged or mixed up.
 * @throws ERR_CONFIG_INVALID when an adapted module is not a target, ERR_TENSOR_MISSING when a target has no tensors
 */
export function checkTargets(
  config: ConfigReader,
  adapted: ReadonlySet<string>,
  candidates: readonly string[],
): void {
  const targets = config.targets('target_modules')
  if (targets === null) return
  const excluded = config.targets('exclude_modules')
  const saved = config.names('modules_to_save') ?? []
  const all = typeof targets === 'string' && targets.toLowerCase() === 'all-linear'
  const patterned = config.value('layers_pattern')
  const isTarget = (path: string): boolean => {
    if (excluded !== null && excluded.length > 0 && matchesTargets(excluded, path)) return false
    if (all) return !/(?:^|\.)(?:lm_head|score|classifier)$/.test(path)
    if (!matchesTargets(targets, path)) return false
    // A pattern of one's own decides which number is the layer; the tensors already did.
    return (patterned !== null && patterned.toString() !== '') || inLayers(config, path)
  }
  for (const path of adapted)
    if (!isTarget(path))
      throw new GraftError(
        'ERR_CONFIG_INVALID',
        `the weights adapt ${path}, which target_modules does not name: config and weights are of two adapters`,
      )
  for (const path of candidates) {
    const skip = isSaved(saved, path) || patterned !== null
    if (!skip && !adapted.has(path) && isTarget(path))
      throw new GraftError(
        'ERR_TENSOR_MISSING',
        `target_modules names ${path}, which the weights do not adapt: the file is incomplete or of another base`,
      )
  }
}
