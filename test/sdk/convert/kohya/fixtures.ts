import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type ImportOptions, importAdapter } from '@graft/convert/import-adapter.ts'
import { denseRows } from '@graft/sdk/format/dense/rows.ts'
import { toFloat32 } from '@graft/sdk/format/dtypes.ts'
import type { Operation } from '@graft/sdk/format/operations.ts'
import { readSafetensors, type Tensor } from '@graft/sdk/format/safetensors.ts'
import { baseAt, readFolder, type Values } from '../fixtures.ts'

export const HERE = join(import.meta.dirname, 'fixtures')

export const baseNamed = (name: 'pipeline' | 'llama') => baseAt(join(HERE, `base-${name}`), name)

export const sourceOf = (name: string) => readFolder(join(HERE, name))

/** The one weights file of a fixture. */
export const weightsOf = (name: string): [string, Uint8Array] =>
  [...sourceOf(name)].find(([path]) => path.endsWith('.safetensors'))!

export async function importFixture(
  name: string,
  edit: (files: Map<string, Uint8Array>) => void = () => {},
  options: Partial<ImportOptions> = {},
) {
  const files = sourceOf(name)
  edit(files)
  const base = await baseNamed(name.startsWith('lycoris') ? 'llama' : 'pipeline')
  return importAdapter({ files, base, name: '@acme/fixture', version: '1.0.0', ...options })
}

export const expectedOf = (name: string): Map<string, Values> => {
  const { tensors } = readSafetensors(readFileSync(join(HERE, name, 'expected.safetensors')))
  return new Map(
    [...tensors].map(([key, t]) => [key, { shape: t.shape, data: toFloat32(t.dtype, t.data) }]),
  )
}

/** B A of an update, a row at a time, in f64: the kernel's axes count as inputs. */
function* rowsOf(op: Extract<Operation, { op: 'low_rank' | 'magnitude' }>, slot: Slots) {
  const [a, b] = [slot(op.slots.A), slot(op.slots.B)]
  const width = a.length / op.rank
  for (let o = 0; o < op.out; o++) {
    const row = new Float64Array(width)
    for (let r = 0; r < op.rank; r++)
      for (let i = 0; i < width; i++) row[i]! += b[o * op.rank + r]! * a[r * width + i]!
    yield row.map((v) => v * Number(op.scale))
  }
}

type Slots = (tensor: string) => Float32Array

const dot = (row: Float64Array): number => row.reduce((sum, v, i) => sum + v * Math.cos(i), 0)

/** models.py's probe of what an operation does to the weight: dW over cos(0), cos(1), ... per row. */
export function probeOf(op: Operation, tensors: Map<string, Tensor>, w?: Float32Array): number[] {
  const slot: Slots = (name) => toFloat32(tensors.get(name)!.dtype, tensors.get(name)!.data)
  if (op.op === 'dense') {
    const addRow = denseRows(op, slot)
    return Array.from({ length: op.out }, (_, o) => {
      const row = new Float64Array(op.in)
      addRow(row, o)
      return dot(row)
    })
  }
  if (op.op === 'low_rank') return [...rowsOf(op, slot)].map(dot)
  if (op.op !== 'magnitude' || !w) throw new TypeError(`no probe of ${op.op}`)
  const m = slot(op.slots.m)
  return [...rowsOf(op, slot)].map((row, o) => {
    const before = Float64Array.from(w.subarray(o * op.in, (o + 1) * op.in))
    const summed = before.map((v, i) => v + row[i]!)
    const norm = Math.sqrt(summed.reduce((sum, v) => sum + v * v, 0))
    return dot(summed.map((v, i) => (v * m[o]!) / norm - before[i]!))
  })
}
