import { findNonFinite, toFloat32, writeFloat32 } from '@graft/sdk/format/dtypes.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

const WIDTH = { F16: 2, BF16: 2, F32: 4, F64: 8 } as const
const dtype = fc.constantFrom(...(Object.keys(WIDTH) as (keyof typeof WIDTH)[]))

/** Bytes of whole elements, at an offset that no wider number is aligned to. */
const tensor = fc.tuple(dtype, fc.uint8Array({ maxLength: 200 })).map(([name, bytes]) => {
  const whole = bytes.subarray(0, bytes.length - (bytes.length % WIDTH[name]))
  const moved = new Uint8Array(whole.length + 1)
  moved.set(whole, 1)
  return { name, bytes: moved.subarray(1) }
})

describe('weights as f32', () => {
  it('the first element that is not finite is found from the bits alone', () => {
    fc.assert(
      fc.property(tensor, ({ name, bytes }) => {
        const at = toFloat32(name, bytes).findIndex((value) => !Number.isFinite(value))
        expect(findNonFinite(name, bytes)).toBe(at)
      }),
      { numRuns: 500 },
    )
  })

  it('an infinity and a NaN are found in every dtype, and the largest finite value is not', () => {
    const f16 = (...words: number[]) => new Uint8Array(Uint16Array.from(words).buffer)
    expect(findNonFinite('F16', f16(0x7bff, 0xfbff, 0x7c00))).toBe(2)
    expect(findNonFinite('F16', f16(0x7bff, 0xfc01))).toBe(1)
    expect(findNonFinite('BF16', f16(0x7f7f, 0xff7f, 0x7f80))).toBe(2)
    expect(findNonFinite('BF16', f16(0xffc0))).toBe(0)
    const f64 = new Uint8Array(Float64Array.of(3e38, 1e39).buffer)
    expect(findNonFinite('F64', f64)).toBe(1)
  })

  it('are the same written into memory that was there as in memory made for them', () => {
    fc.assert(
      fc.property(tensor, ({ name, bytes }) => {
        const target = new Float32Array(bytes.length / WIDTH[name]).fill(7)
        writeFloat32(name, bytes, target)
        const bits = (values: Float32Array) => [...new Uint32Array(values.slice().buffer)]
        expect(bits(target)).toEqual(bits(toFloat32(name, bytes)))
      }),
    )
  })
})
