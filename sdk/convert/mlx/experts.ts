import type { BaseSites } from '@graft/sdk/format/base-sites.ts'

/** What Mixtral's checkpoints call the parts of an expert. */
const MIXTRAL: Readonly<Record<string, string>> = {
  gate_proj: 'w1',
  down_proj: 'w2',
  up_proj: 'w3',
}

/**
 * Where the experts lie that mlx-lm has stacked into one layer (`switch_mlp`): the checkpoint that it was converted from
 * holds each by itself. @returns the path of expert e, null where the base has none under any of the known names
 */
export function expertPaths(sites: BaseSites, path: string): ((expert: number) => string) | null {
  const [, block, part] = /^(.+)\.switch_mlp\.([^.]+)$/.exec(path) ?? []
  if (block === undefined || part === undefined) return null
  for (const name of [part, MIXTRAL[part]]) {
    const of = (expert: number) => `${block}.experts.${expert}.${name}`
    const resolved = sites.resolve(of(0))
    if (name !== undefined && resolved !== null && sites.linear(resolved) !== null)
      return (expert) => sites.resolve(of(expert)) ?? of(expert)
  }
  return null
}
