import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import {
  NESTED_BLOCK,
  type NestedAbsmax,
  unnestAbsmax,
} from '../engine/graph/quantise/double-quantisation.ts'
import { NF4_BLOCK, NF4_LEVELS, type Nf4 } from '../engine/graph/quantise/nf4.ts'
import type { Weight } from './read-checkpoint.ts'

const STATE = '.quant_state.bitsandbytes__'

/** What bitsandbytes writes beside a quantised weight, as JSON in bytes. */
interface QuantState {
  quant_type: unknown
  blocksize: unknown
  shape: unknown
  nested_blocksize?: unknown
  nested_offset?: unknown
}

/**
 * A weight that bitsandbytes stored in four bits, with its codes as they are; null for any other weight.
 * bitsandbytes rounds what the codes stand for to the `dtype` of the state before it multiplies; here it stays f32.
 * @throws ERR_CHECKPOINT_INVALID when parts are missing or of another size, ERR_ARCHITECTURE_UNSUPPORTED for FP4
 */
export function readBnbWeight(
  weights: ReadonlyMap<string, Weight>,
  name: string,
): { shape: number[]; nf4: Nf4 } | null {
  const key = ['nf4', 'fp4'].map((type) => `${name}${STATE}${type}`).find((k) => weights.has(k))
  if (key === undefined) return null
  const state = readState(weights.get(key)!, key)
  refuseOther(key, 'quant_type', 'nf4', state.quant_type)
  refuseOther(key, 'blocksize', NF4_BLOCK, state.blocksize)
  const shape = state.shape
  if (!Array.isArray(shape) || !shape.every((size) => Number.isInteger(size) && size > 0))
    throw invalid(expected(`${key}: shape`, 'positive integers', shape))
  const values = shape.reduce((product: number, size: number) => product * size, 1)
  if (values % NF4_BLOCK !== 0)
    throw invalid(expected(`${key}: shape`, `a multiple of ${NF4_BLOCK} values`, shape))
  const part = (suffix: string, dtype: string, length: number): Weight =>
    readPart(weights, `${name}${suffix}`, dtype, length)
  const levels = floats(part('.quant_map', 'F32', NF4_LEVELS.length))
  if (levels.some((level, i) => level !== NF4_LEVELS[i]))
    throw invalid(expected(`${name}.quant_map`, 'the levels of NF4', [...levels]))
  const blocks = values / NF4_BLOCK
  const codes = part('', 'U8', values / 2).data
  if (state.nested_blocksize === undefined)
    return { shape, nf4: { codes, absmax: floats(part('.absmax', 'F32', blocks)) } }
  refuseOther(key, 'nested_blocksize', NESTED_BLOCK, state.nested_blocksize)
  const offset = state.nested_offset
  if (typeof offset !== 'number')
    throw invalid(expected(`${key}: nested_offset`, 'a number', offset))
  const nested: NestedAbsmax = {
    codes: part('.absmax', 'U8', blocks).data,
    absmax: floats(part('.nested_absmax', 'F32', Math.ceil(blocks / NESTED_BLOCK))),
    offset,
  }
  return {
    shape,
    nf4: { codes, absmax: unnestAbsmax(nested, floats(part('.nested_quant_map', 'F32', 256))) },
  }
}

const invalid = (message: string): GraftError => new GraftError('ERR_CHECKPOINT_INVALID', message)

function refuseOther(key: string, field: string, want: string | number, got: unknown): void {
  if (got === want) return
  throw new GraftError(
    'ERR_ARCHITECTURE_UNSUPPORTED',
    expected(`${key}: ${field}`, JSON.stringify(want), got),
  )
}

function readState({ data }: Weight, key: string): QuantState {
  try {
    return JSON.parse(new TextDecoder().decode(data)) as QuantState
  } catch (cause) {
    throw new GraftError('ERR_CHECKPOINT_INVALID', `${key} must be JSON`, { cause })
  }
}

function readPart(
  weights: ReadonlyMap<string, Weight>,
  name: string,
  dtype: string,
  length: number,
): Weight {
  const found = weights.get(name)
  if (!found) throw invalid(`the tensor ${name} is missing`)
  const size = found.shape.reduce((product, dim) => product * dim, 1)
  if (found.dtype !== dtype || size !== length)
    throw invalid(expected(name, `${length} of ${dtype}`, `${size} of ${found.dtype}`))
  return found
}

/** A copy: bytes of a file need not be aligned. */
const floats = ({ data }: Weight): Float32Array =>
  new Float32Array(data.slice().buffer, 0, data.byteLength / 4)
