import { asLowRank, exactRank, runsAsLowRank } from '@graft/sdk/format/dense/as-low-rank.ts'
import { inverseDft } from '@graft/sdk/format/dense/inverse-dft.ts'
import { denseNorm } from '@graft/sdk/format/dense/norm.ts'
import { denseRows } from '@graft/sdk/format/dense/rows.ts'
import type { Dense } from '@graft/sdk/format/operations.ts'
import { parseOperation } from '@graft/sdk/format/parse-operation.ts'
import { slotsOf } from '@graft/sdk/format/slots.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

const at = { op: 'dense', site: 'model.layers.0.self_attn.q_proj', in: 12, out: 8 } as const
const HADAMARD: Dense = {
  ...{ ...at, form: 'hadamard', rank: 2, scale: '0.5' },
  slots: { w1a: 'w1a', w1b: 'w1b', w2a: 'w2a', w2b: 'w2b' },
}
const KRONECKER: Dense = {
  ...{ ...at, form: 'kronecker', scale: '0.5', shape1: [2, 3], shape2: [4, 4] },
  slots: { w1: 'w1', w2: 'w2' },
}
const ROTATION: Dense = {
  ...{ ...at, form: 'rotation', blockSize: 4, shared: false, slots: { Q: 'Q' } },
}
const BUTTERFLY: Dense = {
  ...{ ...at, form: 'butterfly', blockSize: 6, factors: 2, slots: { R: 'R', s: 's' } },
}
const SPECTRUM: Dense = {
  ...{ ...at, form: 'spectrum', frequencies: 5, scale: '2' },
  slots: { values: 'values', indices: 'indices' },
}

describe('the forms of dense', () => {
  it.each([HADAMARD, KRONECKER, ROTATION, BUTTERFLY, SPECTRUM])('$form is read as it is', (op) => {
    expect(parseOperation(op, 'op')).toEqual(op)
  })

  it.each<[string, Dense, object, string]>([
    [
      'a form that is not known',
      HADAMARD,
      { form: 'tucker' },
      'op.form must be one of matrix, hadamard',
    ],
    ['a field of another form', HADAMARD, { frequencies: 3 }, 'op must be made of'],
    ['a slot of another form', ROTATION, { slots: { dW: 'x' } }, 'op.slots.Q must be present'],
    ['sides that do not make the matrix', KRONECKER, { shape2: [4, 5] }, 'shape1 times it is 8,12'],
    ['a side of one size', KRONECKER, { shape1: [2] }, 'op.shape1 must be two sizes'],
    ['a whole side with a rank', KRONECKER, { rank1: 2 }, 'op.slots.w1 must be absent'],
    [
      'a side of a rank without its factors',
      KRONECKER,
      { rank2: 2, slots: { w1: 'w1', w2a: 'w2a' } },
      'op.slots.w2b must be present',
    ],
    ['a side without anything', KRONECKER, { slots: { w1: 'w1' } }, 'op.slots.w2 must be present'],
    [
      'blocks that do not fill the input',
      ROTATION,
      { blockSize: 5 },
      'a divisor of 12, at least 2',
    ],
    ['blocks of one element', ROTATION, { blockSize: 1 }, 'a divisor of 12, at least 2'],
    ['an empty series', ROTATION, { series: [] }, 'at least one decimal'],
    ['a series of 65', ROTATION, { series: Array(65).fill('1') }, 'at most 64 coefficients'],
    ['a series of numbers', ROTATION, { series: [1, 2] }, 'op.series[0] must be a decimal string'],
    ['a norm below zero', ROTATION, { maxNorm: '-1' }, 'op.maxNorm must be at least 0'],
    [
      'levels that the input has no room for',
      BUTTERFLY,
      { factors: 3 },
      'levels of even blocks that divide 12 inputs',
    ],
    ['levels of odd blocks', BUTTERFLY, { blockSize: 3 }, 'levels of even blocks'],
    ['a million levels', BUTTERFLY, { factors: 1e6 }, 'at most 24'],
    ['more frequencies than places', SPECTRUM, { frequencies: 97 }, 'at most one per element'],
    ['an input beyond what f32 counts', SPECTRUM, { in: 2 ** 24 + 1 }, 'at most one per element'],
  ])('%s is refused', (_, op, change, message) => {
    expect(() => parseOperation({ ...op, ...change }, 'op')).toThrow(
      expect.objectContaining({
        code: 'ERR_MANIFEST_INVALID',
        message: expect.stringContaining(message),
      }),
    )
  })
})

const numbers = (seed: number) => {
  let state = seed
  return (length: number) =>
    Float32Array.from({ length }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return state / 2 ** 31 - 1
    })
}
/** Values for every slot of an operation. */
const valuesOf = (op: Dense, seed: number) => {
  const draw = numbers(seed)
  const tensors = new Map(
    slotsOf(op).map(({ tensor, shape }) => [tensor, draw(shape.reduce((n, dim) => n * dim, 1))]),
  )
  return (name: string) => tensors.get(name)!
}
const rowsOf = (op: Dense, values: (name: string) => Float32Array): Float64Array[] => {
  const add = denseRows(op, values)
  return Array.from({ length: op.out }, (_, o) => {
    const row = new Float64Array(op.in)
    add(row, o)
    return row
  })
}

const size = fc.integer({ min: 1, max: 5 })
const side = fc.record({
  rows: size,
  columns: size,
  rank: fc.option(fc.integer({ min: 1, max: 3 })),
})

describe('exact factors', () => {
  it('of any Kronecker and Hadamard product are dW', () => {
    const kronecker = fc.tuple(side, side).map(([one, two]): Dense => {
      const slots = (name: string, rank: number | null) =>
        rank === null ? { [name]: name } : { [`${name}a`]: `${name}a`, [`${name}b`]: `${name}b` }
      return {
        ...{ op: 'dense', form: 'kronecker', site: 'x', scale: '0.75' },
        ...{ in: one.columns * two.columns, out: one.rows * two.rows },
        ...{ shape1: [one.rows, one.columns], shape2: [two.rows, two.columns] },
        ...(one.rank === null ? {} : { rank1: one.rank }),
        ...(two.rank === null ? {} : { rank2: two.rank }),
        slots: { ...slots('w1', one.rank), ...slots('w2', two.rank) },
      }
    })
    const hadamard = fc
      .record({ in: size, out: size, rank: size })
      .map((sizes): Dense => ({ ...HADAMARD, ...sizes }) as Dense)
    fc.assert(
      fc.property(fc.oneof(kronecker, hadamard), fc.nat(), (op, seed) => {
        const values = valuesOf(op, seed)
        const { operation, tensors } = asLowRank(op, values)
        const [a, b] = [tensors.get(operation.slots.A)!.data, tensors.get(operation.slots.B)!.data]
        expect(operation.rank).toBe(exactRank(op))
        for (const [o, row] of rowsOf(op, values).entries())
          for (const [i, want] of row.entries()) {
            let sum = 0
            for (let r = 0; r < operation.rank; r++)
              sum += b[o * operation.rank + r]! * a[r * op.in + i]!
            expect(Number(operation.scale) * sum).toBeCloseTo(want, 5)
          }
      }),
    )
  })

  it('are run where their rank is at most 128 and half of what the matrix can have', () => {
    const wide = { in: 4096, out: 1024 }
    const runs = (change: object) => runsAsLowRank({ ...HADAMARD, ...wide, ...change } as Dense)
    expect([runs({ rank: 11 }), runs({ rank: 12 })]).toEqual([true, false])
    expect([runs({ rank: 8, out: 128 }), runs({ rank: 8, out: 127 })]).toEqual([true, false])
    const kronecker = (change: object) =>
      runsAsLowRank({ ...KRONECKER, ...wide, ...change } as Dense)
    expect(kronecker({ shape1: [32, 64], shape2: [32, 64], rank2: 4 })).toBe(true)
    expect(kronecker({ shape1: [32, 64], shape2: [32, 64], rank2: 5 })).toBe(false)
    expect(runsAsLowRank({ ...ROTATION, ...wide })).toBe(false)
  })
})

describe('norms and transforms', () => {
  it('the norm of a spectrum is that of its rows, mirrored places and all', () => {
    fc.assert(
      fc.property(
        fc.record({ in: fc.integer({ min: 1, max: 9 }), out: fc.integer({ min: 1, max: 9 }) }),
        fc.array(fc.nat({ max: 80 }), { minLength: 1, maxLength: 40 }),
        fc.nat(),
        (sizes, places, seed) => {
          const unique = [...new Set(places.map((place) => place % (sizes.in * sizes.out)))]
          const op = { ...SPECTRUM, ...sizes, frequencies: unique.length } as Dense
          const indices = Float32Array.from([
            ...unique.map((place) => Math.floor(place / sizes.in)),
            ...unique.map((place) => place % sizes.in),
          ])
          const drawn = valuesOf(op, seed)
          const values = (name: string) => (name === 'indices' ? indices : drawn(name))
          const squares = rowsOf(op, values).flatMap((row) => [...row].map((value) => value ** 2))
          const want = Math.sqrt(squares.reduce((sum, value) => sum + value, 0))
          expect(denseNorm(op, values)).toBeCloseTo(want, 9)
        },
      ),
    )
  })

  it.each([1, 2, 7, 12, 97, 128])('the inverse transform of %i is its definition', (n) => {
    const [real, imaginary] = [
      Float64Array.from(numbers(n)(n)),
      Float64Array.from(numbers(n + 1)(n)),
    ]
    const [a, b] = [real.slice(), imaginary.slice()]
    inverseDft(n)(a, b)
    for (let p = 0; p < n; p++) {
      let [x, y] = [0, 0]
      for (let k = 0; k < n; k++) {
        const turn = (2 * Math.PI * ((k * p) % n)) / n
        x += real[k]! * Math.cos(turn) - imaginary[k]! * Math.sin(turn)
        y += real[k]! * Math.sin(turn) + imaginary[k]! * Math.cos(turn)
      }
      expect(a[p]).toBeCloseTo(x / n, 12)
      expect(b[p]).toBeCloseTo(y / n, 12)
    }
  })
})
