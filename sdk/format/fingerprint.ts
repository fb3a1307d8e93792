import { denseRows } from './dense/rows.ts'
import type { Dense, Operation } from './operations.ts'
import { slotsOf } from './slots.ts'

type Values = (tensor: string) => Float32Array

/** How many probes: two adapters that differ agree in all of them by chance only. */
const PROBES = 4
const VERSION = 'g1'

/** FNV-1a over UTF-16 units: only spreads seeds. */
function seedOf(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash >>> 0
}

/** +1 or -1 for every index, from mulberry32 of a seed: random access, so that vectors need no memory. */
function sign(seed: number, index: number): 1 | -1 {
  let z = (seed + Math.imul(index + 1, 0x6d2b79f5)) >>> 0
  z = Math.imul(z ^ (z >>> 15), z | 1)
  z ^= z + Math.imul(z ^ (z >>> 7), z | 61)
  return (z ^ (z >>> 14)) & 1 ? 1 : -1
}

/** The sum over i of +-values[i]. */
function probe(values: ArrayLike<number>, seed: number): number {
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += sign(seed, i) * values[i]!
  return sum
}

/** u^T B A v without forming the product: the same for every A, B that share it. */
function bilinear(
  op: Extract<Operation, { op: 'low_rank' | 'magnitude' }>,
  values: Values,
  [u, v]: [number, number],
): number {
  const { slots, rank } = op
  const stacks = ('experts' in op ? op.experts : undefined) ?? 1
  const [a, b] = [values(slots.A), values(slots.B)]
  const e = 'E' in slots && slots.E !== undefined ? values(slots.E) : null
  const d = 'D' in slots && slots.D !== undefined ? values(slots.D) : null
  const [width, out] = [a.length / (stacks * rank), b.length / (stacks * rank)]
  let sum = 0
  for (let s = 0; s < stacks; s++)
    for (let r = 0; r < rank; r++) {
      let right = 0
      const row = (s * rank + r) * width
      for (let i = 0; i < width; i++) right += sign(v, i) * a[row + i]!
      let left = 0
      for (let o = 0; o < out; o++)
        left += sign(u, s * out + o) * (d?.[o] ?? 1) * b[(s * out + o) * rank + r]!
      sum += left * (e?.[r] ?? 1) * right
    }
  return Number(op.scale) * sum
}

/** Seeds of the signs u over a site's outputs and v over its inputs. */
const seedsOf = ({ site }: Operation, nth: number): [number, number] => [
  seedOf(`${nth} ${site} u`),
  seedOf(`${nth} ${site} v`),
]

/** One number of what an operation does to its site. */
function probeOperation(op: Operation, values: Values, nth: number): number {
  const seed = (part: string) => seedOf(`${nth} ${op.op} ${op.site} ${part}`)
  const uv = seedsOf(op, nth)
  switch (op.op) {
    case 'low_rank': {
      const bias = op.slots.Bbias
      const shift = bias === undefined ? 0 : Number(op.scale) * probe(values(bias), seed('Bbias'))
      return bilinear(op, values, uv) + shift
    }
    case 'magnitude':
      return bilinear(op, values, uv) + probe(values(op.slots.m), seed('m'))
    default:
      break
  }
  // The values themselves: there is one way to write them.
  return slotsOf(op).reduce((sum, { slot, tensor }) => sum + probe(values(tensor), seed(slot)), 0)
}

/** u^T dW v of every probe, over one evaluation of dW's rows. */
function probeDense(op: Dense, values: Values): number[] {
  const seeds = Array.from({ length: PROBES }, (_, nth) => seedsOf(op, nth))
  const sums = seeds.map(() => 0)
  const addRow = denseRows(op, values)
  for (let o = 0; o < op.out; o++) {
    const row = new Float64Array(op.in)
    addRow(row, o)
    for (const [nth, [u, v]] of seeds.entries()) sums[nth]! += sign(u, o) * probe(row, v)
  }
  return sums
}

/** What one operation does to its site, in four numbers: random projections of its delta. */
export function probesOf(op: Operation, values: Values): number[] {
  if (op.op === 'dense' && op.form !== 'rotation' && op.form !== 'butterfly')
    return probeDense(op, values)
  return Array.from({ length: PROBES }, (_, nth) => probeOperation(op, values, nth))
}

/**
 * What an adapter computes, in four numbers: the sums of its operations' probes. The same for every format that it is
 * written in, for every scale folded into B and for every gauge (B M)(M^-1 A) of a low rank update, up to rounding:
 * compare with sameFingerprint. No proof against an enemy: two adapters can be made to agree.
 */
export function fingerprintOf(probes: readonly (readonly number[])[]): string {
  const sums = Array.from({ length: PROBES }, (_, nth) =>
    probes.reduce((sum, one) => sum + one[nth]!, 0),
  )
  return `${VERSION}:${sums.map((sum) => sum.toPrecision(6)).join(',')}`
}

/** Whether two fingerprints are of one adapter. @param tolerance of the largest number */
export function sameFingerprint(a: string, b: string, tolerance = 1e-5): boolean {
  const [x, y] = [a, b].map((text) => {
    const [version, rest = ''] = text.split(':')
    return version === VERSION ? rest.split(',').map(Number) : []
  }) as [number[], number[]]
  if (x.length !== PROBES || y.length !== PROBES) return false
  const scale = Math.max(...x.map(Math.abs), ...y.map(Math.abs))
  return x.every((value, i) => Math.abs(value - y[i]!) <= tolerance * scale)
}
