import { type Factors, product, type RowMap } from './row-map.ts'

/** One side of the product: whole [rows, columns], or a product of a [rows, rank] and b [rank, columns]. */
export interface KroneckerSide {
  rows: number
  columns: number
  value: { whole: Float32Array } | { a: Float32Array; b: Float32Array; rank: number }
}

/** LoKr (LyCORIS, arXiv 2309.14859): W + scale * w1 (x) w2, (w1 (x) w2)[l K + k, m N + n] = w1[l, m] w2[k, n]. w2 [K, N]. */
export function kroneckerRows(w1: KroneckerSide, w2: KroneckerSide, scale: number): RowMap {
  const left = whole(w1)
  const right = whole(w2)
  return (row, o) => {
    const l = Math.floor(o / w2.rows)
    const k = o % w2.rows
    for (let m = 0; m < w1.columns; m++) {
      const factor = scale * left[l * w1.columns + m]!
      for (let n = 0; n < w2.columns; n++)
        row[m * w2.columns + n]! += factor * right[k * w2.columns + n]!
    }
  }
}

export function whole({ rows, columns, value }: KroneckerSide): ArrayLike<number> {
  return 'whole' in value ? value.whole : product(value.a, value.b, [rows, value.rank, columns])
}

/** Rank of the factors below: a side that is whole has at most the shorter of its two. */
export const sideRank = ({ rows, columns, value }: KroneckerSide): number =>
  'rank' in value ? value.rank : Math.min(rows, columns)

/** A side as a [rows, rank] times b [rank, columns]; a whole one beside the identity, which rounds nothing. */
function sideFactors(side: KroneckerSide): { a: Float32Array; b: Float32Array; rank: number } {
  const { rows, columns, value } = side
  if ('rank' in value) return value
  const rank = sideRank(side)
  const identity = new Float32Array(rank * rank)
  for (let r = 0; r < rank; r++) identity[r * rank + r] = 1
  return rows <= columns
    ? { a: identity, b: value.whole, rank }
    : { a: value.whole, b: identity, rank }
}

/** (a1 b1) (x) (a2 b2) = (a1 (x) a2) (b1 (x) b2): B A of the product of both ranks. */
export function kroneckerFactors(w1: KroneckerSide, w2: KroneckerSide): Factors {
  const one = sideFactors(w1)
  const two = sideFactors(w2)
  return {
    rank: one.rank * two.rank,
    a: kronecker(one.b, [one.rank, w1.columns], two.b, [two.rank, w2.columns]),
    b: kronecker(one.a, [w1.rows, one.rank], two.a, [w2.rows, two.rank]),
  }
}

function kronecker(
  x: Float32Array,
  [l, m]: readonly [number, number],
  y: Float32Array,
  [k, n]: readonly [number, number],
): Float32Array {
  const out = new Float32Array(l * m * k * n)
  for (let i = 0; i < l; i++)
    for (let p = 0; p < k; p++)
      for (let j = 0; j < m; j++)
        for (let q = 0; q < n; q++)
          out[(i * k + p) * m * n + j * n + q] = x[i * m + j]! * y[p * n + q]!
  return out
}
