import { DTYPES, isDtype } from '@graft/sdk/format/dtypes.ts'
import { derivedTensor, readTensor, type TensorSource } from '@graft/sdk/format/tensor-source.ts'
import { type Rounded, scaled } from './round-to-f32.ts'

/** Of several scales the one that most have: theirs need no folding. 0 only where all are, or it would silence the others. */
export function commonScale(scales: readonly string[]): string {
  const counts = new Map<string, number>()
  for (const scale of scales) counts.set(scale, (counts.get(scale) ?? 0) + 1)
  const [best] = [...counts].toSorted(
    ([a, n], [b, m]) => Number(Number(b) !== 0) - Number(Number(a) !== 0) || m - n,
  )
  return best?.[0] ?? '1'
}

/** What B is multiplied by when an update of `scale` stands in a file of another. */
export const foldedFactor = (scale: string, file: string): number =>
  scale === file ? 1 : Number(scale) / Number(file)

/** A tensor times a number; as it is where that changes nothing. @throws ERR_WEIGHTS_NON_FINITE */
export const scaleTensor = async (source: TensorSource, factor: number): Promise<Rounded> =>
  factor === 1 && source.dtype !== 'F64' ? { tensor: source, error: 0 } : scaled(source, factor)

/** Every row of a matrix [rows, columns] lengthened to `to` columns with zeros. */
function widened(tensor: TensorSource, rows: number, columns: number, to: number, shape: number[]) {
  const element = isDtype(tensor.dtype) ? DTYPES[tensor.dtype].bits / 8 : 0
  return derivedTensor(tensor.dtype, shape, rows * to * element, async () => {
    const { data } = await readTensor(tensor)
    const out = new Uint8Array(rows * to * element)
    for (let row = 0; row < rows; row++)
      out.set(
        data.subarray(row * columns * element, (row + 1) * columns * element),
        row * to * element,
      )
    return out
  })
}

/** A rank lengthened with zeros: on the last axis, or on the one before it. Zero ranks add nothing. */
export function padRank(tensor: TensorSource, rank: number, axis: 'last' | 'rows'): TensorSource {
  const { shape } = tensor
  const at = shape.length - (axis === 'last' ? 1 : 2)
  if (shape[at] === rank) return tensor
  const padded = shape.map((dim, i) => (i === at ? rank : dim))
  const outer = shape.slice(0, at).reduce((n, dim) => n * dim, 1)
  const inner = shape.slice(at + 1).reduce((n, dim) => n * dim, 1)
  return widened(tensor, outer, shape[at]! * inner, rank * inner, padded)
}
