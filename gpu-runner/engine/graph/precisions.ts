import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { Execution } from './execution.ts'
import { BLOCK, WIDE_BLOCK } from './quantise/blocks.ts'
import { NF4_BLOCK } from './quantise/nf4.ts'

interface Floats {
  name: 'floats'
  multiple: 1
}

/** Whole numbers, and a scale for every `block` of a row or for the widest block below it that the row divides by. */
export interface BlocksForm {
  name: 'blocks'
  bits: 4 | 8
  block: number
  multiple: typeof BLOCK
}

/** Whole numbers of 8 bits and a scale for every output; activations are quantised by row. */
interface ChannelsForm {
  name: 'channels'
  multiple: 1
}

/** NF4 as it is, or as a sum of a 4-bit and a 2-bit matrix. */
interface Nf4Form {
  name: 'nf4' | 'nf4-planes'
  multiple: typeof NF4_BLOCK
}

/** How a matrix is held; `multiple` is what its input size must be a multiple of. */
export type Form = Floats | BlocksForm | ChannelsForm | Nf4Form

const FLOATS: Floats = { name: 'floats', multiple: 1 }
const CHANNELS: ChannelsForm = { name: 'channels', multiple: 1 }
const blocks = (bits: 4 | 8, block: number): BlocksForm => ({
  name: 'blocks',
  bits,
  block,
  multiple: BLOCK,
})

interface PrecisionFacts {
  /** Of one weight of a linear, scales apart. */
  bits: number
  /** Weights of a row that share a scale; Infinity = all of them. */
  block: number
  /** Of the seven linears of every block. */
  linears: Form
  head: Floats | BlocksForm | ChannelsForm
  embedding: Floats | BlocksForm
}

/**
 * How each precision holds a base. `nf4` is what bitsandbytes multiplies by to 2% of its weights' size, at the speed of
 * integer kernels; `nf4-exact` is its very numbers, head and embeddings unquantised as QLoRA leaves them, and slow.
 */
export const PRECISIONS = {
  fp32: { bits: 32, block: 1, linears: FLOATS, head: FLOATS, embedding: FLOATS },
  int8: {
    bits: 8,
    block: BLOCK,
    linears: blocks(8, BLOCK),
    head: blocks(8, BLOCK),
    embedding: FLOATS,
  },
  w8a8: { bits: 8, block: Infinity, linears: CHANNELS, head: CHANNELS, embedding: FLOATS },
  int4: {
    bits: 4,
    block: BLOCK,
    linears: blocks(4, BLOCK),
    head: blocks(4, BLOCK),
    embedding: FLOATS,
  },
  nf4: {
    bits: 6,
    block: NF4_BLOCK,
    linears: { name: 'nf4-planes', multiple: NF4_BLOCK },
    head: blocks(8, WIDE_BLOCK),
    embedding: blocks(8, WIDE_BLOCK),
  },
  'nf4-exact': {
    bits: 4,
    block: NF4_BLOCK,
    linears: { name: 'nf4', multiple: NF4_BLOCK },
    head: FLOATS,
    embedding: FLOATS,
  },
} as const satisfies Record<string, PrecisionFacts>

export type Precision = keyof typeof PRECISIONS

/** @throws ERR_REQUEST_INVALID where an execution has no kernel for what the precision multiplies with */
export function assertRuns(precision: Precision, execution: Execution): void {
  if (PRECISIONS[precision].linears.name !== 'channels' || execution === 'cpu') return
  throw new GraftError(
    'ERR_REQUEST_INVALID',
    `${expected(`precision on ${execution}`, 'one whose activations stay floats', precision)}; int8 is its nearest`,
  )
}
