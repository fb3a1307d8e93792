import { mulberry32 } from '../random.ts'

/** Choices that a seed decides, so that any run can be had again. */
export interface Random {
  /** In [0, 1). */
  next(): number
  /** In [0, n). */
  below(n: number): number
  chance(p: number): boolean
  pick<T>(from: readonly T[]): T
}

export function seededRandom(seed: number): Random {
  const next = mulberry32(seed)
  const below = (n: number) => Math.floor(next() * n)
  return { next, below, chance: (p) => next() < p, pick: (from) => from[below(from.length)]! }
}
