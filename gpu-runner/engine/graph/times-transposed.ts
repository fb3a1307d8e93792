import type { GraphContext } from './context.ts'

/**
 * x W^T for a W that is an input of the graph: [tokens,in] and [R,in] give [tokens,R].
 * On WebGPU FusedMatMul would run on the CPU and copy its operands; Gemm reads W as it lies.
 */
export const timesTransposed = ({ m, execution }: GraphContext, x: string, w: string): string =>
  m.node(execution === 'cpu' ? 'FusedMatMul' : 'Gemm', [x, w], { transB: 1 })
