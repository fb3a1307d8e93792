import { isWeightDtype, toFloat32 } from '@graft/sdk/format/dtypes.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { slotsOf } from '@graft/sdk/format/slots.ts'
import { derivedTensor, readTensor, type TensorSource } from '@graft/sdk/format/tensor-source.ts'
import type { Loss, OpenAdapter } from './exporter.ts'

/** What people and tools call the dtypes that weights are cast to. */
export const CAST_DTYPES = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' } as const
export type CastDtype = keyof typeof CAST_DTYPES

const word = new DataView(new ArrayBuffer(4))

/** The half nearest to an f32, ties to even (IEEE 754 roundTiesToEven). */
export function toHalf(value: number): number {
  word.setFloat32(0, value)
  const bits = word.getUint32(0)
  const sign = (bits >>> 16) & 0x8000
  const magnitude = bits & 0x7fffffff
  // 65520 is the first that rounds past the largest half, 65504.
  if (magnitude >= 0x477ff000) return sign | 0x7c00
  if (magnitude < 0x38800000) {
    // Below the smallest normal half, steps are of 2^-24, and the product is exact enough to round once.
    const scaled = Math.abs(value) * 2 ** 24
    const floor = Math.floor(scaled)
    const rest = scaled - floor
    return sign | (floor + (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? 1 : 0))
  }
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >>> 13)
}

/** The upper half of an f32's bits, ties to even. */
function toBfloat(value: number): number {
  word.setFloat32(0, value)
  const bits = word.getUint32(0)
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff
}

function encode(values: Float32Array, dtype: (typeof CAST_DTYPES)[CastDtype]): Uint8Array {
  if (dtype === 'F32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  const round = dtype === 'F16' ? toHalf : toBfloat
  const out = Uint16Array.from(values, round)
  return new Uint8Array(out.buffer)
}

/**
 * The adapter with every weight rounded once to another dtype, and what that costs, tensor by tensor.
 * @throws ERR_WEIGHTS_NON_FINITE when a weight is beyond the dtype's range
 */
export async function castAdapter(
  adapter: OpenAdapter,
  to: CastDtype,
): Promise<{ adapter: OpenAdapter; losses: Loss[] }> {
  const dtype = CAST_DTYPES[to]
  const tensors = new Map<string, TensorSource>(adapter.tensors)
  const losses: Loss[] = []
  for (const op of adapter.manifest.operations)
    for (const { slot, tensor: name } of slotsOf(op)) {
      const tensor = adapter.tensors.get(name)!
      // A tensor that two operations share is cast once; indices are no weights.
      if (tensor.dtype === dtype || !isWeightDtype(tensor.dtype) || tensors.get(name) !== tensor)
        continue
      const cast = async (): Promise<{ from: ArrayLike<number>; bytes: Uint8Array }> => {
        const { data } = await readTensor(tensor)
        const from = toFloat32(tensor.dtype, data)
        return { from: exactValues(tensor.dtype, data) ?? from, bytes: encode(from, dtype) }
      }
      const { from, bytes } = await cast()
      const back = toFloat32(dtype, bytes)
      const error = back.reduce((worst, v, i) => Math.max(worst, Math.abs(v - from[i]!)), 0)
      if (!Number.isFinite(error))
        throw new GraftError(
          'ERR_WEIGHTS_NON_FINITE',
          `${expected(`tensor ${name}`, `within the range of ${to}`, 'a larger weight')}; take --dtype bfloat16 or keep ${tensor.dtype}`,
        )
      if (error > 0)
        losses.push({
          site: op.site,
          field: slot,
          what: `${tensor.dtype} rounded to ${dtype}`,
          maxAbsError: error,
        })
      tensors.set(
        name,
        derivedTensor(dtype, tensor.shape, bytes.length, async () => (await cast()).bytes),
      )
    }
  return { adapter: { manifest: adapter.manifest, tensors }, losses }
}

/** F64 read whole, so that its error is that of both roundings. */
const exactValues = (dtype: string, data: Uint8Array): Float64Array | null =>
  dtype === 'F64' ? new Float64Array(data.slice().buffer) : null
