/** Turns row o of W [out, in] into row o of W + dW, in place. */
export type RowMap = (row: Float64Array, o: number) => void

/** C = A B in f64. A [rows, rank], B [rank, columns]. */
export function product(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  [rows, rank, columns]: readonly [number, number, number],
): Float64Array {
  const c = new Float64Array(rows * columns)
  for (let i = 0; i < rows; i++)
    for (let r = 0; r < rank; r++) {
      const factor = a[i * rank + r]!
      for (let j = 0; j < columns; j++) c[i * columns + j]! += factor * b[r * columns + j]!
    }
  return c
}

/** s B A without the product: A [rank, in], B [out, rank], each element rounded once to f32. */
export interface Factors {
  rank: number
  a: Float32Array
  b: Float32Array
}
