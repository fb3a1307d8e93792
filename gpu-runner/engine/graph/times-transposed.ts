import type { GraphContext } from './context.ts'

/**
 * x W^T for a W that is an input of the graph: [B,T,in] and [R,in] give [B,T,R].
 * On WebGPU FusedMatMul would run on the CPU and copy its operands; Gemm reads W as it lies, for two dimensions.
 */
export function timesTransposed({ m, execution }: GraphContext, x: string, w: string): string {
  if (execution === 'cpu') return m.node('FusedMatMul', [x, w], { transB: 1 })
  const flat = m.node('Flatten', [x], { axis: 2 })
  return m.node('Reshape', [m.node('Gemm', [flat, w], { transB: 1 }), 'grid'])
}
