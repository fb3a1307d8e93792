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

/** NF4 as it is, or as a sum of a 4-bit and a 2-bit matrix. */
interface Nf4Form {
  name: 'nf4' | 'nf4-planes'
  multiple: typeof NF4_BLOCK
}

/** How a matrix is held; `multiple` is what its input size must be a multiple of. */
export type Form = Floats | BlocksForm | Nf4Form

const FLOATS: Floats = { name: 'floats', multiple: 1 }
const blocks = (bits: 4 | 8, block: number): BlocksForm => ({
  name: 'blocks',
  bits,
  block,
  multiple: BLOCK,
})

interface PrecisionFacts {
  /** Of one weight of a linear, scales apart. */
  bits: number
  /** Weights of a row that share a scale. */
  block: number
  /** Of the seven linears of every block. */
  linears: Form
  head: Floats | BlocksForm
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
