import type { Loss } from '../exporter.ts'

export interface Update {
  path: string
  site: string
  rank: number
  scale: number
}

export interface ScaleFields {
  fields: {
    r: number
    lora_alpha: number
    use_rslora: boolean
    rank_pattern: Record<string, number>
    alpha_pattern: Record<string, number>
  }
  losses: Loss[]
  notes: string[]
}

/** The f64 next to v, up or down. */
function next(v: number, step: 1n | -1n): number {
  const view = new DataView(new ArrayBuffer(8))
  view.setFloat64(0, v)
  view.setBigUint64(0, view.getBigUint64(0) + (v < 0 ? -step : step))
  return view.getFloat64(0)
}

/** An alpha that PEFT divides back to exactly the scale, an integer where there is one; else the nearest. */
function alphaFor(scale: number, divisor: number): { alpha: number; error: number } {
  const product = scale * divisor
  const tries = [Math.round(product), product, next(product, 1n), next(product, -1n)]
  const found = tries.find((alpha) => alpha / divisor === scale)
  if (found !== undefined) return { alpha: found, error: 0 }
  return { alpha: product, error: Math.abs(product / divisor - scale) }
}

function mostCommon(values: readonly number[]): number {
  const counts = new Map<number, number>()
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1)
  return [...counts].reduce((best, one) => (one[1] > best[1] ? one : best))[0]
}

/** PEFT matches a pattern at the end of a path: one that ends another path needs the anchor. */
const patternOf = (path: string, paths: readonly string[]): string =>
  paths.some((other) => other.endsWith(`.${path}`)) ? `^${path}` : path

/**
 * r, lora_alpha and their patterns for updates of any ranks and scales: PEFT computes alpha / r, or alpha / sqrt(r) with
 * use_rslora, which is taken where it makes all alphas whole.
 */
export function scaleFields(updates: readonly Update[]): ScaleFields {
  const plain = updates.map(({ scale, rank }) => alphaFor(scale, rank))
  const stable = updates.map(({ scale, rank }) => alphaFor(scale, Math.sqrt(rank)))
  const whole = (list: typeof plain): boolean =>
    list.every(({ alpha, error }) => error === 0 && Number.isInteger(alpha))
  const rsLora = !whole(plain) && whole(stable)
  const chosen = rsLora ? stable : plain
  const r = mostCommon(updates.map(({ rank }) => rank))
  const alpha = mostCommon(chosen.map((one) => one.alpha))
  const paths = updates.map(({ path }) => path)
  const pattern = (value: (i: number) => number, usual: number): Record<string, number> =>
    Object.fromEntries(
      paths.flatMap((path, i) => (value(i) === usual ? [] : [[patternOf(path, paths), value(i)]])),
    )
  const losses = updates.flatMap(({ site, scale }, i): Loss[] => {
    const { alpha: used, error } = chosen[i]!
    if (error === 0) return []
    const what = `no f64 alpha divides back to ${scale}; ${used} is the nearest`
    return [{ site, field: 'scale', what, maxAbsError: error }]
  })
  const odd = new Set(chosen.map((one) => one.alpha).filter((value) => !Number.isInteger(value)))
  return {
    fields: {
      r,
      lora_alpha: alpha,
      use_rslora: rsLora,
      rank_pattern: pattern((i) => updates[i]!.rank, r),
      alpha_pattern: pattern((i) => chosen[i]!.alpha, alpha),
    },
    losses,
    notes:
      odd.size === 0
        ? []
        : [
            `lora_alpha is ${[...odd].slice(0, 3).join(', ')}${odd.size > 3 ? ', ...' : ''}: PEFT's own type says integer, and its code divides any number; readers that insist on integers will refuse it`,
          ],
  }
}
