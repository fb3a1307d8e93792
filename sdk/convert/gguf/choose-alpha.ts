/** An update's effective scale and rank. */
export interface Scaled {
  scale: number
  rank: number
}

/** What llama.cpp multiplies an update of this rank by: alpha / rank in f32. */
export const scaleOf = (alpha: number, rank: number): number => Math.fround(alpha / rank)

/**
 * The one alpha of the file: the one that most updates have as scale * rank, so that as few as possible are folded into
 * B. It is stored as f32 and is not 0, which would mean no scaling.
 */
export function chooseAlpha(updates: readonly Scaled[]): number {
  const counts = new Map<number, number>()
  for (const { scale, rank } of updates) {
    const alpha = Math.fround(scale * rank)
    if (alpha !== 0 && Number.isFinite(alpha)) counts.set(alpha, (counts.get(alpha) ?? 0) + 1)
  }
  const most = Math.max(...counts.values())
  // The largest of equals: the same choice in whatever order the updates come.
  return Math.max(...[...counts].filter(([, n]) => n === most).map(([alpha]) => alpha), -Infinity)
}

/**
 * What B must be multiplied by under this alpha: 1 where the file's scale is, in f32, the update's own; a power of two
 * changes no digit of B.
 */
export function factorOf({ scale, rank }: Scaled, alpha: number): number {
  const got = scaleOf(alpha, rank)
  return Math.fround(scale) === got ? 1 : scale / got
}
