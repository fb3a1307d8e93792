/** An update's effective scale and rank. */
export interface Scaled {
  scale: number
  rank: number
}

/** What llama.cpp multiplies an update of this rank by: alpha / rank in f32. */
export const scaleOf = (alpha: number, rank: number): number => Math.fround(alpha / rank)

/** Whether llama.cpp's scale is, in f32, the update's own. */
export const isExact = ({ scale, rank }: Scaled, alpha: number): boolean =>
  Math.fround(scale) === scaleOf(alpha, rank)

/** The f32 beside a positive or negative one, away from 0 or towards it. */
function neighbour(value: number, step: 1 | -1): number {
  const bits = new DataView(new ArrayBuffer(4))
  bits.setFloat32(0, value)
  bits.setUint32(0, bits.getUint32(0) + step)
  return bits.getFloat32(0)
}

/**
 * The one alpha of the file: the one that most updates have as scale * rank, so that as few as possible are folded into
 * B; of the f32 numbers there, the one whose quotient is exact for most. 0 would mean no scaling.
 * @returns -Infinity when every update has scale 0
 */
export function chooseAlpha(updates: readonly Scaled[]): number {
  const counts = new Map<number, number>()
  for (const { scale, rank } of updates) {
    const alpha = Math.fround(scale * rank)
    if (alpha !== 0 && Number.isFinite(alpha)) counts.set(alpha, (counts.get(alpha) ?? 0) + 1)
  }
  const most = Math.max(...counts.values())
  // The largest of equals: the same choice in whatever order the updates come.
  const alpha = Math.max(...[...counts].filter(([, n]) => n === most).map(([a]) => a), -Infinity)
  if (!Number.isFinite(alpha)) return alpha
  const exact = (candidate: number): number =>
    updates.filter((one) => isExact(one, candidate)).length
  return [neighbour(alpha, 1), neighbour(alpha, -1)].reduce(
    (best, other) => (exact(other) > exact(best) ? other : best),
    alpha,
  )
}

/** Two f32 numbers that follow each other differ by at most this, relative to them. */
const ONE_STEP = 2 ** -22

/**
 * What B must be multiplied by under this alpha; a power of two changes no digit of B. 1 where the file's scale is the
 * update's own but for the last digit of f32: every element of B would be rounded as much.
 */
export function factorOf({ scale, rank }: Scaled, alpha: number): number {
  const got = scaleOf(alpha, rank)
  return Math.abs(scale - got) <= ONE_STEP * Math.abs(got) ? 1 : scale / got
}
