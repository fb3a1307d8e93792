import type { Dense } from '../operations.ts'

/** Shape per slot of a dense operation, for slots that may be absent too. */
export function denseShapes(op: Dense): Record<string, number[]> {
  switch (op.form) {
    case 'matrix':
      return { dW: [op.out, op.in] }
    case 'hadamard': {
      const [a, b] = [
        [op.out, op.rank],
        [op.rank, op.in],
      ]
      return { w1a: a, w1b: b, w2a: a, w2b: b }
    }
    case 'kronecker': {
      const [[l = 0, m = 0], [k = 0, n = 0]] = [op.shape1, op.shape2]
      const [rank1 = 0, rank2 = 0] = [op.rank1, op.rank2]
      return {
        w1: [l, m],
        w1a: [l, rank1],
        w1b: [rank1, m],
        w2: [k, n],
        w2a: [k, rank2],
        w2b: [rank2, n],
      }
    }
    case 'rotation': {
      const blocks = op.shared ? 1 : op.in / op.blockSize
      return { Q: [blocks, (op.blockSize * (op.blockSize - 1)) / 2] }
    }
    case 'butterfly': {
      const { factors, blockSize } = op
      return { R: [factors, op.in / blockSize, blockSize, blockSize], s: [op.out] }
    }
    case 'spectrum':
      return { values: [op.frequencies], indices: [2, op.frequencies] }
  }
}
