import { DTYPES, isDtype } from '@graft/sdk/format/dtypes.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { derivedTensor, readTensor, type TensorSource } from '@graft/sdk/format/tensor-source.ts'

/**
 * A box of a source tensor as a tensor of its own: the source is seen in shape `view`, cut to [begin, end) on every
 * axis, and its axes come in the order `axes` (axis n of the result is axis axes[n] of the view).
 */
export interface Block {
  view: number[]
  begin: number[]
  end: number[]
  axes: number[]
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((n, dim) => n * dim, 1)

/** Bytes of one element; sub-byte dtypes do not move alone. */
function elementBytes(dtype: string): number {
  const bits = isDtype(dtype) ? DTYPES[dtype].bits : 0
  if (bits >= 8 && bits % 8 === 0) return bits / 8
  throw new GraftError(
    'ERR_TENSOR_SHAPE',
    expected('a tensor to cut', 'of a dtype of whole bytes', dtype),
  )
}

/** The shape that a block has by itself, before a reader sees it in another. */
export const blockShape = ({ begin, end, axes }: Block): number[] =>
  axes.map((axis) => end[axis]! - begin[axis]!)

/** Moves the elements of a block between the source and the block's own C order; runs that lie together move at once. */
function move(
  block: Block,
  width: number,
  source: Uint8Array,
  own: Uint8Array,
  direction: 'cut' | 'join',
): void {
  const { view, begin, axes } = block
  const strides = view.map((_, axis) => sizeOf(view.slice(axis + 1)) * width)
  const sizes = blockShape(block)
  const steps = axes.map((axis) => strides[axis]!)
  const last = sizes.length - 1
  const run = steps[last] === width ? sizes[last]! : 1
  const inner = sizes[last]! / run
  const bytes = run * width
  const counter = sizes.map(() => 0)
  let at = begin.reduce((sum, from, axis) => sum + from * strides[axis]!, 0)
  for (let to = 0; to < own.length; ) {
    for (let i = 0; i < inner; i++, to += bytes) {
      const from = at + i * steps[last]!
      if (direction === 'cut') own.set(source.subarray(from, from + bytes), to)
      else source.set(own.subarray(to, to + bytes), from)
    }
    let axis = last - 1
    for (; axis >= 0; axis--) {
      at += steps[axis]!
      if (++counter[axis]! < sizes[axis]!) break
      at -= steps[axis]! * sizes[axis]!
      counter[axis] = 0
    }
    if (axis < 0) break
  }
}

/** The block of a tensor, in `shape` where that is not the block's own. */
export function cutBlock(
  tensor: TensorSource,
  block: Block,
  shape: number[] = blockShape(block),
): TensorSource {
  const width = elementBytes(tensor.dtype)
  const bytes = sizeOf(shape) * width
  return derivedTensor(tensor.dtype, shape, bytes, async () => {
    const { data } = await readTensor(tensor)
    const own = new Uint8Array(bytes)
    move(block, width, data, own, 'cut')
    return own
  })
}

/** How the key map writes a block: `block <view> <begin> <end> <axes> <shape of the source>`. */
export const blockTransform = ({ view, begin, end, axes }: Block, shape: number[]): string =>
  `block ${[view, begin, end, axes, shape].map((list) => list.join(',')).join(' ')}`

/** @returns null when the text is no block that makes sense */
export function parseBlock(transform: string): { block: Block; shape: number[] } | null {
  if (!/^block(?: \d+(?:,\d+)*){5}$/.test(transform)) return null
  const [view, begin, end, axes, shape] = transform
    .split(' ')
    .slice(1)
    .map((list) => list.split(',').map(Number)) as [
    number[],
    number[],
    number[],
    number[],
    number[],
  ]
  const inside = view.every((dim, i) => begin[i]! < end[i]! && end[i]! <= dim)
  const whole = [begin, end, axes].every((list) => list.length === view.length)
  const permutes = [...axes].sort((a, b) => a - b).every((axis, i) => axis === i)
  if (!inside || !whole || !permutes || sizeOf(view) !== sizeOf(shape)) return null
  return { block: { view, begin, end, axes }, shape }
}

/** Two of each of a thousand experts; pairs of blocks are compared, so a forged key map may not name many. */
const MAX_BLOCKS = 2048

const overlap = (a: Block, b: Block): boolean =>
  a.begin.every((from, i) => from < b.end[i]! && b.begin[i]! < a.end[i]!)

/**
 * The source tensor out of all its blocks.
 * @returns null when they do not tile it: not of one view, overlapping, or with gaps
 */
export function joinBlocks(
  parts: readonly { block: Block; shape: number[]; tensor: TensorSource }[],
): TensorSource | null {
  const [first] = parts
  if (first === undefined || parts.length > MAX_BLOCKS) return null
  const { dtype } = first.tensor
  const width = elementBytes(dtype)
  const total = sizeOf(first.shape) * width
  const view = first.block.view.join()
  const fits = parts.every(
    ({ block, shape, tensor }) =>
      block.view.join() === view &&
      shape.join() === first.shape.join() &&
      tensor.dtype === dtype &&
      tensor.data.size === sizeOf(blockShape(block)) * width,
  )
  const covered = parts.reduce((sum, { tensor }) => sum + tensor.data.size, 0)
  const apart = parts.every(({ block }, i) =>
    parts.slice(i + 1).every((other) => !overlap(block, other.block)),
  )
  if (!fits || covered !== total || !apart) return null
  return derivedTensor(dtype, first.shape, total, async () => {
    const data = new Uint8Array(total)
    for (const { block, tensor } of parts)
      move(block, width, data, (await readTensor(tensor)).data, 'join')
    return data
  })
}
