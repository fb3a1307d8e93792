import { once, rowsOf } from './linear-tensor.ts'
import type { LinearWeight, WeightRows } from './linear-weights.ts'
import { ONNX_TYPE, type OnnxModel } from './onnx-model.ts'
import { type Blocks, blockWithin, quantizeBands } from './quantise/blocks.ts'
import { NF4_BLOCK, type Nf4 } from './quantise/nf4.ts'
import { NF4_PLANES_RATIO, type Nf4Planes, nf4Planes, planesBlock } from './quantise/nf4-planes.ts'
import { concatenateNf4, nf4Of } from './quantise/nf4-weights.ts'

const { FLOAT, UINT8 } = ONNX_TYPE

export function writeFloats(m: OnnxModel, of: LinearWeight, rows: WeightRows, x: string): string {
  const dims = [rows.out, of.in]
  return m.node('Gemm', [x, rowsOf(m, of, rows, 'weight', FLOAT, dims, () => of.parts())], {
    transB: 1,
  })
}

export function writeBlocks(
  m: OnnxModel,
  { bits, block: widest }: { bits: 4 | 8; block: number },
  of: LinearWeight,
  rows: WeightRows,
  x: string,
): string {
  const block = blockWithin(of.in, widest)
  const made = once<Blocks>(() => quantizeBands(of.parts(), of.out * of.in, bits, block))
  const dims = [rows.out, of.in / block, (block * bits) / 8]
  const q = rowsOf(m, of, rows, 'q', UINT8, dims, () => made().q)
  const scales = rowsOf(m, of, rows, 'scales', FLOAT, [rows.out * dims[1]!], () => made().scales)
  return timesBlocks(m, of, rows, x, q, scales, bits, block)
}

/** bitsandbytes' own product: x by what codes and absmax stand for, in f32. */
export function writeNf4(m: OnnxModel, of: LinearWeight, rows: WeightRows, x: string): string {
  const made = once<Nf4>(() => nf4(of))
  const size = rows.out * of.in
  const codes = rowsOf(m, of, rows, 'nf4', UINT8, [size / 2], () => made().codes)
  const absmax = rowsOf(m, of, rows, 'absmax', FLOAT, [size / NF4_BLOCK], () => made().absmax)
  const NF4 = 1
  return m.node('MatMulBnb4', [x, codes, absmax], {
    K: of.in,
    N: rows.out,
    block_size: NF4_BLOCK,
    quant_type: NF4,
  })
}

export function writeNf4Planes(
  m: OnnxModel,
  of: LinearWeight,
  rows: WeightRows,
  x: string,
): string {
  const block = planesBlock(of.in)
  const made = once<Nf4Planes>(() => nf4Planes(nf4(of), of.in))
  const blocks = of.in / block
  const plane = (name: 'four' | 'two', bytes: number) =>
    rowsOf(m, of, rows, name, UINT8, [rows.out, blocks, bytes], () => made()[name])
  const four = plane('four', block / 2)
  const two = plane('two', block / 4)
  const scales = rowsOf(m, of, rows, 'scales', FLOAT, [rows.out * blocks], () => made().scales)
  const low = timesBlocks(m, of, rows, x, two, scales, 2, block)
  const value = NF4_PLANES_RATIO[block]
  const ratio = m.constant(`nf4.ratio_${block}`, FLOAT, [], new Float32Array([value]))
  const high = timesBlocks(m, of, rows, x, four, scales, 4, block)
  return m.node('Add', [high, m.node('Mul', [low, ratio])])
}

function timesBlocks(
  m: OnnxModel,
  of: LinearWeight,
  rows: WeightRows,
  x: string,
  q: string,
  scales: string,
  bits: number,
  block: number,
): string {
  // accuracy_level 4: activations are quantised per row and block, so a neighbour never changes a row.
  return m.node('MatMulNBits', [x, q, scales], {
    K: of.in,
    N: rows.out,
    bits,
    block_size: block,
    accuracy_level: 4,
  })
}

const nf4 = (of: LinearWeight): Nf4 => concatenateNf4(Array.from(of.parts(), nf4Of))
