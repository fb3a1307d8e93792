import { join } from 'node:path'
import { readBnbWeight } from '@graft/runner/checkpoint/bnb-weights.ts'
import {
  dynamicMap,
  nestAbsmax,
  unnestAbsmax,
} from '@graft/runner/engine/graph/quantise/double-quantisation.ts'
import { dequantizeNf4, quantizeNf4 } from '@graft/runner/engine/graph/quantise/nf4.ts'
import { nf4Planes, weightsOfPlanes } from '@graft/runner/engine/graph/quantise/nf4-planes.ts'
import { floatsOf, nf4Of } from '@graft/runner/engine/graph/quantise/nf4-weights.ts'
import { readSafetensors } from '@graft/sdk/format/safetensors.ts'
import { describe, expect, it, test } from 'vitest'
import { readBytes } from './peer-goldens.ts'

const FIXTURE = join(import.meta.dirname, 'fixtures/nf4/quantised.safetensors')
const { tensors } = readSafetensors(await readBytes(FIXTURE))
const raw = (name: string) => Buffer.from(tensors.get(name)!.data)
const floats = (name: string) => new Float32Array(Uint8Array.from(raw(name)).buffer)
const bits = (values: Float32Array) =>
  Buffer.from(values.buffer, values.byteOffset, values.byteLength)

test('the map of 8-bit codes is the one of bitsandbytes', () => {
  expect(bits(dynamicMap()).equals(raw('map'))).toBe(true)
})

test.each(['real', 'random', 'spread', 'zeros', 'equal'])(
  'codes, absmax and weights of %s values are those of bitsandbytes, bit for bit',
  (name) => {
    const own = quantizeNf4(floats(`${name}.w`))
    expect(Buffer.from(own.codes).equals(raw(`${name}.codes`))).toBe(true)
    const [offset] = floats(`${name}.offset`)
    const nested = nestAbsmax(own.absmax, offset)
    expect(Buffer.from(nested.codes).equals(raw(`${name}.absmax`))).toBe(true)
    expect(bits(nested.absmax).equals(raw(`${name}.nested_absmax`))).toBe(true)
    const w = dequantizeNf4({ codes: own.codes, absmax: unnestAbsmax(nested) })
    expect(bits(w).equals(raw(`${name}.dequantised`))).toBe(true)
    // The mean is a sum in another order: equal to the last bit or next to it.
    const share = Math.abs(nestAbsmax(own.absmax).offset - offset!) / Math.abs(offset!)
    expect(share).toBeLessThanOrEqual(2 ** -23)
  },
)

test.each([
  ['128', 128, 0.023],
  ['64', 64, 0.017],
] as const)('planes in blocks of %s stay near the NF4 weights', (_, inner, share) => {
  const nf4 = quantizeNf4(floats('random.w'))
  const planes = nf4Planes(nf4, inner)
  expect(planes.block).toBe(inner)
  const [w, near] = [dequantizeNf4(nf4), weightsOfPlanes(planes)]
  const size = (values: Float32Array) => Math.hypot(...values)
  const off = size(w.map((value, i) => value - near[i]!)) / size(w)
  expect(off).toBeLessThan(share)
  expect(off).toBeGreaterThan(0)
})

test('weights that came from NF4 are their own codes again', () => {
  const nf4 = nf4Of(floats('real.w'))
  expect(nf4Of(floatsOf(nf4))).toBe(nf4)
})

describe('a weight that bitsandbytes stored', () => {
  const stored = async () => {
    const file = await readBytes(
      join(import.meta.dirname, 'fixtures/nf4/base-4bit/model.safetensors'),
    )
    return readSafetensors(file).tensors
  }
  const NAME = 'model.layers.0.self_attn.q_proj.weight'
  const STATE = `${NAME}.quant_state.bitsandbytes__nf4`

  it('is read with its codes as they are', async () => {
    const weights = await stored()
    const read = readBnbWeight(weights, NAME)!
    expect(read.shape).toEqual([64, 64])
    expect(read.nf4.codes).toEqual(weights.get(NAME)!.data)
    expect(readBnbWeight(weights, 'lm_head.weight')).toBeNull()
  })

  it('is refused where a part is missing', async () => {
    const weights = await stored()
    weights.delete(`${NAME}.nested_absmax`)
    expect(() => readBnbWeight(weights, NAME)).toThrow(
      expect.objectContaining({
        code: 'ERR_CHECKPOINT_INVALID',
        message: `the tensor ${NAME}.nested_absmax is missing`,
      }),
    )
  })

  it('is refused by name in FP4', async () => {
    const weights = await stored()
    const state = JSON.stringify({ quant_type: 'fp4', blocksize: 64, shape: [64, 64] })
    const data = new TextEncoder().encode(state)
    weights.delete(STATE)
    weights.set(STATE.replace('nf4', 'fp4'), { dtype: 'U8', shape: [data.length], data })
    expect(() => readBnbWeight(weights, NAME)).toThrow(
      expect.objectContaining({
        code: 'ERR_ARCHITECTURE_UNSUPPORTED',
        message: expect.stringContaining('quant_type must be "nf4", got "fp4"'),
      }),
    )
  })
})
