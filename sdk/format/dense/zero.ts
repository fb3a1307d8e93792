import type { Dense } from '../operations.ts'

type Values = (tensor: string) => Promise<Float32Array>

const isZero = (values: Float32Array): boolean => values.every((value) => value === 0)

/** Every rank has a zero column of a [rows, rank] or a zero row of b [rank, columns]. */
function productIsZero(a: Float32Array, b: Float32Array, rank: number): boolean {
  const width = b.length / rank
  for (let r = 0; r < rank; r++) {
    if (isZero(b.subarray(r * width, (r + 1) * width))) continue
    for (let at = r; at < a.length; at += rank) if (a[at] !== 0) return false
  }
  return true
}

/** True only where dW is provably zero, whatever the base's weights are. */
export async function denseIsZero(op: Dense, values: Values): Promise<boolean> {
  const product = async (a: string, b: string, rank: number): Promise<boolean> =>
    productIsZero(await values(a), await values(b), rank)
  switch (op.form) {
    case 'matrix':
      return isZero(await values(op.slots.dW))
    case 'hadamard': {
      const { w1a, w1b, w2a, w2b } = op.slots
      if (Number(op.scale) === 0) return true
      return (await product(w1a, w1b, op.rank)) || (await product(w2a, w2b, op.rank))
    }
    case 'kronecker': {
      const { w1, w1a, w1b, w2, w2a, w2b } = op.slots
      if (Number(op.scale) === 0) return true
      const zero1 = w1 ? isZero(await values(w1)) : await product(w1a!, w1b!, op.rank1!)
      return zero1 || (w2 ? isZero(await values(w2)) : product(w2a!, w2b!, op.rank2!))
    }
    case 'rotation': {
      if (op.series !== undefined && Number(op.series[0]) !== 1) return false
      if (Number(op.maxNorm) === 0 || isZero(await values(op.slots.Q))) return true
      return op.series?.slice(1).every((coefficient) => Number(coefficient) === 0) ?? false
    }
    case 'butterfly': {
      if (!(await values(op.slots.s)).every((value) => value === 1)) return false
      return isSymmetric(await values(op.slots.R), op.blockSize)
    }
    case 'spectrum':
      return Number(op.scale) === 0 || isZero(await values(op.slots.values))
  }
}

/** Every block of r [.., size, size] equals its transpose: nothing is rotated. */
function isSymmetric(r: Float32Array, size: number): boolean {
  for (let block = 0; block < r.length; block += size * size)
    for (let i = 0; i < size; i++)
      for (let j = 0; j < i; j++)
        if (r[block + i * size + j] !== r[block + j * size + i]) return false
  return true
}
