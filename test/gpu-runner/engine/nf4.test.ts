import { join } from 'node:path'
import {
  dynamicMap,
  nestAbsmax,
  unnestAbsmax,
} from '@graft/runner/engine/graph/quantise/double-quantisation.ts'
import { dequantizeNf4, quantizeNf4 } from '@graft/runner/engine/graph/quantise/nf4.ts'
import { readSafetensors } from '@graft/sdk/format/safetensors.ts'
import { expect, test } from 'vitest'
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
