import type { ConfigReader } from '../config-keys.ts'
import type { Spread } from '../spread.ts'
import type { Family } from './families.ts'

/** A module inside a block that LoRA adapts; of a fused q, k, v, the parts of it. */
export interface Target {
  path: string
  spread: Spread | null
}

export interface Place {
  layer: number
  target: Target
}

const LETTERS = ['q', 'k', 'v'] as const

/** What the config's flags say is adapted in every block. @throws ERR_CONFIG_INVALID */
export function loraTargets(family: Family, config: ConfigReader): Target[] {
  const { projections, intermediate, output } = family
  const targets: Target[] = []
  if (config.boolean('selfattn_lora', true)) {
    const letters = config.names('attn_matrices') ?? ['q', 'v']
    const places = [...LETTERS.keys()].filter((i) => letters.includes(LETTERS[i]!))
    // A fused layer takes its parts in the order of the layer, whatever the config's order is.
    if ('qkv' in projections) {
      if (places.length > 0) targets.push({ path: projections.qkv, spread: { of: 3, places } })
    } else
      for (const place of places) targets.push({ path: projections[LETTERS[place]!], spread: null })
  }
  for (const [flag, path] of [
    ['intermediate_lora', intermediate],
    ['output_lora', output],
  ] as const)
    if (config.boolean(flag, false))
      targets.push({
        path: path ?? config.fail(flag, 'false, as the interface names no such layer'),
        spread: null,
      })
  return targets
}
