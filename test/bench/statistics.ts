/** The value below which `share` of the values lie, between neighbours by straight line. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (sorted.length - 1) * share
  const below = sorted[Math.floor(at)]!
  return below + (sorted[Math.ceil(at)]! - below) * (at % 1)
}

export const median = (values: readonly number[]): number => quantile(values, 0.5)

export const rounded = (value: number, digits = 4): number => Number(value.toPrecision(digits))

/** Median with its spread, rounded to `digits` significant digits. */
export function summary(values: readonly number[], digits = 4) {
  const round = (value: number) => rounded(value, digits)
  return {
    median: round(median(values)),
    quartiles: [round(quantile(values, 0.25)), round(quantile(values, 0.75))],
    min: round(Math.min(...values)),
    max: round(Math.max(...values)),
    n: values.length,
  }
}

/** How many times as fast `other` is as `base`, from milliseconds of arms that ran in turn. */
export function speedRatio(base: readonly number[], other: readonly number[]) {
  return {
    ratio: rounded(median(base) / median(other)),
    by_round: summary(base.map((ms, i) => ms / other[i]!)),
  }
}
