import type { Dense } from '../operations.ts'
import { butterflyRows } from './butterfly.ts'
import { hadamardFactors, hadamardRows } from './hadamard.ts'
import { type KroneckerSide, kroneckerFactors, kroneckerRows } from './kronecker.ts'
import { rotationRows } from './rotation.ts'
import type { Factors, RowMap } from './row-map.ts'
import { spectrumRows } from './spectrum.ts'

/** Values of the tensor that a slot of the operation names, in the slot's shape. */
export type SlotValues = (tensor: string) => Float32Array

/** Turns rows of the base's W into rows of W + dW, in f64; any order of rows. */
export function denseRows(op: Dense, values: SlotValues): RowMap {
  switch (op.form) {
    case 'matrix': {
      const dW = values(op.slots.dW)
      return (row, o) => {
        for (let i = 0; i < op.in; i++) row[i]! += dW[o * op.in + i]!
      }
    }
    case 'hadamard':
      return hadamardRows(hadamardTensors(op.slots, values), { ...op, scale: Number(op.scale) })
    case 'kronecker':
      return kroneckerRows(...kroneckerSides(op, values), Number(op.scale))
    case 'rotation':
      return rotationRows(values(op.slots.Q), {
        ...op,
        series: op.series?.map(Number) ?? null,
        maxNorm: op.maxNorm === undefined ? null : Number(op.maxNorm),
      })
    case 'butterfly':
      return butterflyRows(values(op.slots.R), values(op.slots.s), op)
    case 'spectrum': {
      const indices = values(op.slots.indices)
      const rows = indices.subarray(0, op.frequencies)
      const columns = indices.subarray(op.frequencies)
      const scale = Number(op.scale)
      return spectrumRows(values(op.slots.values), rows, columns, { ...op, scale })
    }
  }
}

/** dW without its scale as B A; null for forms that have no such factors. */
export function denseFactors(op: Dense, values: SlotValues): Factors | null {
  if (op.form === 'hadamard') return hadamardFactors(hadamardTensors(op.slots, values), op)
  if (op.form === 'kronecker') return kroneckerFactors(...kroneckerSides(op, values))
  return null
}

type Hadamard = Extract<Dense, { form: 'hadamard' }>

const hadamardTensors = ({ w1a, w1b, w2a, w2b }: Hadamard['slots'], values: SlotValues) => ({
  w1a: values(w1a),
  w1b: values(w1b),
  w2a: values(w2a),
  w2b: values(w2b),
})

export function kroneckerSides(
  { shape1, shape2, rank1, rank2, slots }: Extract<Dense, { form: 'kronecker' }>,
  values: SlotValues,
): [KroneckerSide, KroneckerSide] {
  const side = (
    [rows = 0, columns = 0]: number[],
    rank: number | undefined,
    [whole, a, b]: readonly (string | undefined)[],
  ): KroneckerSide => ({
    rows,
    columns,
    value: rank === undefined ? { whole: values(whole!) } : { a: values(a!), b: values(b!), rank },
  })
  return [
    side(shape1, rank1, [slots.w1, slots.w1a, slots.w1b]),
    side(shape2, rank2, [slots.w2, slots.w2a, slots.w2b]),
  ]
}
