import { decodeBase64 } from '@graft/sdk/format/base64url.ts'
import { heldBytes } from '@graft/sdk/format/byte-source.ts'
import { DTYPES, type Dtype, toFloat32 } from '@graft/sdk/format/dtypes.ts'
import {
  parseSafetensorsHeader,
  readSafetensors,
  type Tensor,
  writeSafetensors,
} from '@graft/sdk/format/safetensors.ts'
import { openSafetensors } from '@graft/sdk/format/safetensors-source.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { codeOf, hasData, readData } from './vectors.ts'

/** A file with this header text, `data` zero bytes and, when given, another length prefix. */
function file(header: string, data = 0, length?: bigint): Uint8Array {
  const json = new TextEncoder().encode(header)
  const bytes = new Uint8Array(8 + json.length + data)
  new DataView(bytes.buffer).setBigUint64(0, length ?? BigInt(json.length), true)
  bytes.set(json, 8)
  return bytes
}
const entry = (begin: number, end: number, shape = '[1]', dtype = 'F32'): string =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`

const tensors = fc
  .uniqueArray(
    fc.record({
      name: fc.string({ unit: 'grapheme', maxLength: 12 }).filter((n) => n !== '__metadata__'),
      dtype: fc.constantFrom(
        ...(Object.keys(DTYPES) as Dtype[]).filter((d) => DTYPES[d].bits % 8 === 0),
      ),
      shape: fc.array(fc.nat(4), { maxLength: 3 }),
    }),
    { selector: (t) => t.name, maxLength: 6 },
  )
  .chain((rows) =>
    fc.tuple(
      ...rows.map(({ name, dtype, shape }) => {
        const size = (shape.reduce((n, d) => n * d, 1) * DTYPES[dtype].bits) / 8
        return fc
          .uint8Array({ minLength: size, maxLength: size })
          .map((data): [string, Tensor] => [name, { dtype, shape, data }])
      }),
    ),
  )
  .map((rows) => new Map(rows))

/** Ten tensors of seven dtypes, one scalar, one empty, names beyond ASCII; written by safetensors 0.8.0. */
const MIXED = [
  'UAIAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJmb3JtYXQiOiJwdCJ9LCLDqSI6eyJkdHlwZSI6Ikk2NCIsInNoYXBl',
  'IjpbMV0sImRhdGFfb2Zmc2V0cyI6WzAsOF19LCJkIjp7ImR0eXBlIjoiRjY0Iiwic2hhcGUiOltdLCJkYXRhX29m',
  'ZnNldHMiOls4LDE2XX0sImIiOnsiZHR5cGUiOiJGMzIiLCJzaGFwZSI6WzJdLCJkYXRhX29mZnNldHMiOlsxNiwy',
  'NF19LCJjIjp7ImR0eXBlIjoiRjMyIiwic2hhcGUiOlsyLDBdLCJkYXRhX29mZnNldHMiOlsyNCwyNF19LCLvv64i',
  'OnsiZHR5cGUiOiJGMzIiLCJzaGFwZSI6WzFdLCJkYXRhX29mZnNldHMiOlsyNCwyOF19LCLwn5iAIjp7ImR0eXBl',
  'IjoiRjMyIiwic2hhcGUiOlsxXSwiZGF0YV9vZmZzZXRzIjpbMjgsMzJdfSwiZyI6eyJkdHlwZSI6IkJGMTYiLCJz',
  'aGFwZSI6WzFdLCJkYXRhX29mZnNldHMiOlszMiwzNF19LCJoIjp7ImR0eXBlIjoiRjE2Iiwic2hhcGUiOlsxXSwi',
  'ZGF0YV9vZmZzZXRzIjpbMzQsMzZdfSwiYSI6eyJkdHlwZSI6IlU4Iiwic2hhcGUiOlszXSwiZGF0YV9vZmZzZXRz',
  'IjpbMzYsMzldfSwidCI6eyJkdHlwZSI6IkJPT0wiLCJzaGFwZSI6WzFdLCJkYXRhX29mZnNldHMiOlszOSw0MF19',
  'fSAgICAgBwAAAAAAAAAAAAAAAAAIQAAAwD8AAABAAAAAQAAAgD8APwA4AQIDAQ==',
].join('')

describe('writeSafetensors', () => {
  it('gives back what it was given, and the same bytes for any order of tensors', () => {
    const metadata = fc.dictionary(fc.string(), fc.string(), { maxKeys: 3 })
    fc.assert(
      fc.property(tensors, metadata, (map, meta) => {
        const bytes = writeSafetensors(map, meta)
        const again = readSafetensors(bytes)
        expect(new Map([...again.tensors].sort())).toEqual(new Map([...map].sort()))
        expect({ ...again.metadata }).toEqual({ ...meta })
        expect(writeSafetensors(new Map([...map].reverse()), meta)).toEqual(bytes)
        expect(writeSafetensors(again.tensors, again.metadata)).toEqual(bytes)
        const [start] = new BigUint64Array(bytes.slice(0, 8).buffer)
        expect(Number(start) % 8).toBe(0)
      }),
    )
  })

  const OTHERS = [
    'bases/tinystories-656k/model.safetensors',
    'formats/gradience-tiny-lora/examples/adapters/tiny_lora/adapter_model.safetensors',
  ]
  it.skipIf(!OTHERS.every(hasData))('writes the bytes that the reference library wrote', () => {
    for (const path of OTHERS) {
      const bytes = readData(path)
      const { tensors: read, metadata } = readSafetensors(bytes)
      expect(Buffer.compare(writeSafetensors(read, metadata), bytes)).toBe(0)
    }
  })

  it('orders dtypes and names as the reference library does', () => {
    const bytes = decodeBase64(MIXED)
    const { tensors: read, metadata } = readSafetensors(bytes)
    expect(read.size).toBe(10)
    expect(writeSafetensors(new Map([...read].reverse()), metadata)).toEqual(bytes)
  })

  it('refuses bytes that do not fit the shape, and the reserved name', () => {
    const short = new Map([['a', { dtype: 'F32', shape: [2], data: new Uint8Array(4) }]])
    expect(codeOf(() => writeSafetensors(short))).toBe('ERR_SAFETENSORS_INVALID')
    const reserved = new Map([
      ['__metadata__', { dtype: 'U8', shape: [0], data: new Uint8Array() }],
    ])
    expect(codeOf(() => writeSafetensors(reserved))).toBe('ERR_SAFETENSORS_INVALID')
  })
})

const INVALID = 'ERR_SAFETENSORS_INVALID'

describe('readSafetensors', () => {
  const FORGED: [string, Uint8Array, string][] = [
    ['an empty file', new Uint8Array(), 'at least 8 bytes'],
    ['a header length of 2^64 - 1', file('{}', 0, 2n ** 64n - 1n), 'header length'],
    ['a header over the limit', file('{}', 0, 8_388_609n), 'at most 8388608 bytes'],
    ['a header beyond the file', file('{}', 0, 3n), 'inside the file'],
    ['an empty header', file(''), 'starting with "{"'],
    ['a header that does not start with {', file(' {}'), 'starting with "{"'],
    ['a header that is a list', file('[]'), 'starting with "{"'],
    ['a header that is not JSON', file('{"a"'), 'header: character'],
    ['a header that is not UTF-8', file('{"\u00e9"}').map((b) => (b === 0xc3 ? 0xff : b)), 'UTF-8'],
    ['text after the header', file('{}x'), 'the end of the document'],
    ['a tensor named twice', file(`{"a":${entry(0, 4)},"a":${entry(0, 4)}}`, 4), 'hold yet'],
    [
      'a duplicate key inside an entry',
      file(`{"a":{"dtype":"F32",${entry(0, 4).slice(1)}}`, 4),
      'hold yet',
    ],
    ['a duplicate metadata key', file('{"__metadata__":{"k":"1","k":"2"}}'), 'hold yet'],
    ['overlapping tensors', file(`{"a":${entry(0, 4)},"b":${entry(2, 6)}}`, 6), 'overlaps'],
    [
      'two tensors on the same bytes',
      file(`{"a":${entry(0, 4)},"b":${entry(0, 4)}}`, 4),
      'overlaps',
    ],
    ['a gap', file(`{"a":${entry(0, 4)},"b":${entry(8, 12)}}`, 12), 'leaves a gap'],
    ['a gap at the start', file(`{"a":${entry(4, 8)}}`, 8), 'leaves a gap'],
    ['trailing bytes', file(`{"a":${entry(0, 4)}}`, 5), 'bytes as its header says'],
    ['a truncated file', file(`{"a":${entry(0, 4)}}`, 3), 'bytes as its header says'],
    ['a size that differs from the shape', file(`{"a":${entry(0, 8)}}`, 8), '4 bytes for F32 [1]'],
    ['offsets in reverse', file(`{"a":${entry(4, 0)}}`, 4), '4 bytes for F32 [1]'],
    ['a negative offset', file(`{"a":${entry(-4, 0)}}`, 0), 'integers >= 0'],
    ['a fractional offset', file(`{"a":${entry(0, 4.5)}}`, 4), 'an integer of digits only'],
    ['a negative dimension', file(`{"a":${entry(0, 4, '[-1,-1]')}}`, 4), 'integers >= 0'],
    ['a shape that overflows', file(`{"a":${entry(0, 4, '[9007199254740991,2]')}}`, 4), '2^53'],
    ['an unknown dtype', file(`{"a":${entry(0, 4, '[1]', 'F128')}}`, 4), 'a safetensors dtype'],
    [
      'a dtype of the prototype',
      file(`{"a":${entry(0, 4, '[1]', 'toString')}}`, 4),
      'safetensors dtype',
    ],
    ['half a byte', file(`{"a":${entry(0, 1, '[1]', 'F4')}}`, 1), 'whole bytes'],
    ['an unknown field', file(`{"a":{"x":1,${entry(0, 4).slice(1)}}`, 4), 'only'],
    ['a number as metadata', file('{"__metadata__":{"step":1}}'), 'a string'],
    ['nested metadata', file('{"__metadata__":{"a":{}}}'), 'a string'],
    ['metadata that is a list', file('{"__metadata__":[]}'), 'an object of strings'],
    ['a header bomb', file(`{"a":${'['.repeat(5000)}`), 'nested at most'],
  ]
  it.each(FORGED)('refuses %s', (_, bytes, reason) => {
    expect(() => readSafetensors(bytes)).toThrow(reason)
    expect(codeOf(() => readSafetensors(bytes))).toBe('ERR_SAFETENSORS_INVALID')
  })

  it.each<[string, string | number[], string, string]>([
    ['a zip of torch.save', 'PK\x03\x04archive', 'ERR_PICKLE_REFUSED', 'torch.save'],
    ['a pickle', [0x80, 2, 0x7d, 0x71, 0, 0x28, 0x58, 0x41], 'ERR_PICKLE_REFUSED', 'a pickle'],
    ['a pickle in frames', [0x80, 4, 0x95, 9, 0, 0, 0, 0, 0, 0], 'ERR_PICKLE_REFUSED', 'a pickle'],
    ['a Git LFS pointer', 'version https://git-lfs.github.com/spec/v1\n', INVALID, 'git lfs pull'],
    ['a GGUF', 'GGUF\x03\0\0\0\0\0\0\0', INVALID, 'GGUF'],
    ['an HDF5 file', '\x89HDF\r\n\x1a\n', INVALID, 'HDF5'],
    ['a NumPy array', '\x93NUMPY\x01\0', INVALID, 'NumPy'],
  ])(
    'names %s that is called .safetensors, read whole or by ranges',
    async (_, start, code, says) => {
      const codes = typeof start === 'string' ? [...start].map((c) => c.charCodeAt(0)) : start
      const bytes = new Uint8Array([...codes, ...Array(100).fill(0)])
      expect(codeOf(() => readSafetensors(bytes))).toBe(code)
      expect(() => readSafetensors(bytes)).toThrow(says)
      await expect(openSafetensors(heldBytes(bytes))).rejects.toMatchObject({ code })
    },
  )

  it.each<[string, (i: number) => string]>([
    ['open brackets', () => '['],
    ['an unclosed text', (i) => (i === 0 ? '"' : 'a')],
    ['tensors without a size', (i) => `"${i}":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},`],
    ['members of one entry', (i) => (i === 0 ? '"a":{' : `"${i}":0,`)],
    ['escapes', (i) => (i === 0 ? '"' : '\\ud83d')],
    ['white space', () => ' '],
  ])('answers 8 MiB of %s without a crash or a long wait', (_, piece) => {
    const parts = ['{']
    for (let i = 0, size = 1; size < 8 * 1024 * 1024 - 80; i++) {
      parts.push(piece(i))
      size += parts.at(-1)!.length
    }
    parts.push('"end":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}')
    const code = codeOf(() => readSafetensors(file(parts.join(''))))
    expect(code).toMatch(/^(accepted|ERR_SAFETENSORS_INVALID)$/)
  })

  it.each(['1.0', '1e0', '-0', '10E-1'])(
    'refuses %s where a count belongs, as readers with integer types do',
    (one) =>
      expect(() =>
        readSafetensors(file(`{"a":{"dtype":"U8","shape":[${one}],"data_offsets":[0,1]}}`, 1)),
      ).toThrow('an integer of digits only'),
  )

  it('refuses a product that overflows before a 0 ends it', () => {
    const shape = '[9007199254740991,9007199254740991,0]'
    expect(() => readSafetensors(file(`{"a":${entry(0, 0, shape)}}`))).toThrow('2^53')
    const zero = file(`{"a":${entry(0, 0, '[0,9007199254740991,9007199254740991]')}}`)
    expect(codeOf(() => readSafetensors(zero))).toBe('accepted')
  })

  const TINY = 'formats/weight-inspect/tests/fixtures/tiny.safetensors'
  it.skipIf(!hasData(TINY))(
    'refuses a file with bytes after its last tensor, as Python does',
    () => {
      expect(() => readSafetensors(readData(TINY))).toThrow(
        'the file must be 32851 bytes as its header says, got 32856',
      )
    },
  )

  const POINTER = 'formats/lfs-pointer/model.safetensors'
  it.skipIf(!hasData(POINTER))(
    'recognises a Git LFS pointer and says how to fetch the weights',
    () => {
      expect(() => readSafetensors(readData(POINTER))).toThrow('git lfs pull')
    },
  )

  it('never does anything but answer or refuse, whatever bytes are changed', () => {
    const honest = writeSafetensors(
      new Map([
        ['a', { dtype: 'F32', shape: [2, 2], data: new Uint8Array(16) }],
        ['b', { dtype: 'BF16', shape: [], data: new Uint8Array(2) }],
      ]),
      { format: 'pt' },
    )
    const edits = fc.array(fc.tuple(fc.nat(honest.length - 1), fc.nat(255)), {
      minLength: 1,
      maxLength: 4,
    })
    fc.assert(
      fc.property(edits, fc.nat(honest.length), (changes, length) => {
        const bytes = honest.slice(0, length % 3 === 0 ? length : honest.length)
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value
        expect(codeOf(() => readSafetensors(bytes))).toMatch(/^(accepted|ERR_SAFETENSORS_INVALID)$/)
      }),
      { numRuns: 2000 },
    )
  })

  it('reads a header alone when the size of the file is given', () => {
    const bytes = file(`{"a":${entry(0, 4)}}`, 4)
    const head = bytes.subarray(0, bytes.length - 4)
    expect(parseSafetensorsHeader(head, bytes.length).tensors).toEqual([
      { name: 'a', dtype: 'F32', shape: [1], begin: 0, end: 4 },
    ])
    expect(codeOf(() => parseSafetensorsHeader(head))).toBe('ERR_SAFETENSORS_INVALID')
  })
})

describe('toFloat32', () => {
  it('reads half precision as Float16Array does, for all 65,536 values', () => {
    const words = new Uint16Array(65_536).map((_, i) => i)
    const got = toFloat32('F16', new Uint8Array(words.buffer))
    expect(got).toEqual(Float32Array.from(new Float16Array(words.buffer)))
  })

  it('reads bfloat16 as the upper half of f32, F64 rounded, F32 as it is, aligned or not', () => {
    const values = Float32Array.of(1.5, -2, 3.0517578125e-5, 65536)
    const raw = new Uint8Array(values.buffer)
    const shifted = new Uint8Array(17)
    shifted.set(raw, 1)
    expect(toFloat32('F32', shifted.subarray(1))).toEqual(values)
    const upper = raw.filter((_, i) => i % 4 >= 2)
    expect(toFloat32('BF16', upper)).toEqual(values)
    const doubles = Float64Array.of(0.1, 1e300)
    expect(toFloat32('F64', new Uint8Array(doubles.buffer))).toEqual(
      Float32Array.of(Math.fround(0.1), Number.POSITIVE_INFINITY),
    )
  })

  it('refuses dtypes that hold no weights', () => {
    expect(codeOf(() => toFloat32('I64', new Uint8Array(8)))).toBe('ERR_SAFETENSORS_INVALID')
  })
})
