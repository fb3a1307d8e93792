/** Two-sided 95% of a normal distribution. */
const Z = 1.959964

/**
 * Right answers of two arms over the same cases. Interval of the difference `after - before`: Agresti and Min 2005, one
 * half added to each cell of the 2x2 table, so that arms that never differ still have one. p: McNemar's exact test.
 */
export function pairedShare(before: boolean[], after: boolean[]) {
  const n = before.length
  let lost = 0
  let won = 0
  for (const [i, right] of before.entries()) {
    if (right && !after[i]) lost++
    if (!right && after[i]) won++
  }
  const [b, c, total] = [lost + 0.5, won + 0.5, n + 2]
  const centre = (c - b) / total
  const half = (Z / total) * Math.sqrt(b + c - (c - b) ** 2 / total)
  const share = (rights: boolean[]) => rights.filter(Boolean).length / n
  return {
    unmerged: share(before),
    merged: share(after),
    lost,
    won,
    difference: (won - lost) / n,
    interval_95: [centre - half, centre + half],
    p: mcnemar(lost, won),
  }
}

/** Probability of a split at least as uneven of lost + won fair coins. */
export function mcnemar(lost: number, won: number): number {
  const n = lost + won
  // Logarithms: 2^-n underflows where arms differ a lot.
  let logChoose = 0
  let tail = 0
  for (let k = 0; k <= Math.min(lost, won); k++) {
    if (k > 0) logChoose += Math.log((n - k + 1) / k)
    tail += Math.exp(logChoose - n * Math.LN2)
  }
  return Math.min(1, 2 * tail)
}

/** Mean of after - before with its 95% interval. */
export function pairedDifference(before: number[], after: number[]) {
  const differences = before.map((value, i) => after[i]! - value)
  const mean = differences.reduce((a, b) => a + b, 0) / differences.length
  const squares = differences.reduce((sum, d) => sum + (d - mean) ** 2, 0)
  const half = Z * Math.sqrt(squares / (differences.length - 1) / differences.length)
  return { difference: mean, interval_95: [mean - half, mean + half] }
}
