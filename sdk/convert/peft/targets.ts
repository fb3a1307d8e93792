import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { ConfigReader } from '../config-keys.ts'
import { compilePythonPattern, fullMatch } from './python-pattern.ts'

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

/** Whether modules_to_save keeps a module from being adapted: PEFT compares whole names there. */
const isKeptWhole = (names: readonly string[], path: string): boolean =>
  names.some((name) => `.${path}.`.includes(`.${name}.`))

/** Number of the layer that a path lies in: behind one of `patterns`, or the first number behind any name. */
function layerOf(path: string, patterns: readonly string[]): number | null {
  const expressions =
    patterns.length === 0
      ? [/^.*?\.[^.]*\.(?<layer>\d+)\./]
      : patterns.map((pattern) =>
          compilePythonPattern(pattern, (body) => `^(?:(?:|.*?\\.)${body}\\.(?<layer>\\d+)\\.)`),
        )
  for (const expression of expressions) {
    const found = expression.exec(path)
    if (found !== null) return found.groups?.['layer'] ? Number(found.groups['layer']) : null
  }
  return null
}

function inLayers(config: ConfigReader, path: string): boolean {
  const layers = config.value('layers_to_transform')
  if (layers === null || (Array.isArray(layers) && layers.length === 0)) return true
  const patterns = config.value('layers_pattern')
  const layer = layerOf(
    path,
    typeof patterns === 'string' && patterns !== ''
      ? [patterns]
      : ((typeof patterns === 'string' ? null : config.names('layers_pattern')) ?? []),
  )
  if (layer === null) return false
  return Array.isArray(layers) ? layers.includes(layer) : layers === layer
}

/**
 * Modules of the base that a target may name. None where the adapter names them otherwise than the base's files do:
 * then its own tensors are all that is known.
 */
export function targetCandidates(
  sites: BaseSites,
  adapted: Iterable<string>,
  also?: 'embeddings',
): string[] {
  if ([...adapted].some((path) => !sites.has(path.replace(/(?:\.base_layer)+$/, '')))) return []
  const isEmbedding = (path: string) => /(?:^|\.)(?:embed_tokens|wte|wpe)$/.test(path)
  return sites.modules.filter((path) =>
    isEmbedding(path)
      ? also === 'embeddings' && sites.embedding(path) !== null
      : sites.linear(path) !== null,
  )
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
  const isTarget = (path: string): boolean => {
    if (excluded !== null && excluded.length > 0 && matchesTargets(excluded, path)) return false
    if (isKeptWhole(saved, path)) return false
    if (all) return !/(?:^|\.)(?:lm_head|score|classifier|embed_tokens|wte|wpe)$/.test(path)
    // A module that is named whole is adapted in whatever layer it lies.
    if (Array.isArray(targets) && targets.includes(path)) return true
    return matchesTargets(targets, path) && (!Array.isArray(targets) || inLayers(config, path))
  }
  for (const path of adapted)
    if (!isTarget(path))
      throw new GraftError(
        'ERR_CONFIG_INVALID',
        `the weights adapt ${path}, which target_modules does not name: config and weights are of two adapters`,
      )
  for (const path of candidates)
    if (!adapted.has(path) && isTarget(path))
      throw new GraftError(
        'ERR_TENSOR_MISSING',
        `target_modules names ${path}, which the weights do not adapt: the file is incomplete or of another base`,
      )
}
