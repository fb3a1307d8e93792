import { BLOCK } from './quantise/blocks.ts'

/** How each precision holds the weights of a linear: the one table that the graph writer and its callers read. */
export const PRECISIONS = {
  fp32: { op: 'MatMul', bits: 32, block: 1 },
  int8: { op: 'MatMulNBits', bits: 8, block: BLOCK },
  int4: { op: 'MatMulNBits', bits: 4, block: BLOCK },
} as const satisfies Record<string, PrecisionFacts>

export interface PrecisionFacts {
  /** The operator that multiplies by such weights. */
  op: 'MatMul' | 'MatMulNBits'
  /** Of one weight, scales apart. */
  bits: number
  /** Weights of one row that share a scale: a linear's input size must be a multiple of it. */
  block: number
}

export type Precision = keyof typeof PRECISIONS
