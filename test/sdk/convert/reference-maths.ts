import type {
  Bottleneck,
  LowRank,
  Magnitude,
  Operation,
  Scale,
} from '@graft/sdk/format/operations.ts'
import type { Values } from './fixtures.ts'

/*
 * The operations as SPEC.md writes them, in plain loops over one row at a time. Slow on purpose: each line is
 * a line of the specification.
 */

export type Slots = (tensor: string) => Float32Array

/** M [rows, x.length] times x. */
export function multiply(m: Float32Array, x: Float32Array): Float32Array {
  const out = new Float32Array(m.length / x.length)
  for (let o = 0; o < out.length; o++) {
    let sum = 0
    for (let i = 0; i < x.length; i++) sum += m[o * x.length + i]! * x[i]!
    out[o] = sum
  }
  return out
}

const add = (a: Float32Array, b: Float32Array): Float32Array => a.map((v, i) => v + b[i]!)

export function lowRankDelta(op: LowRank | Magnitude, slot: Slots, x: Float32Array): Float32Array {
  const up = multiply(slot(op.slots.B), multiply(slot(op.slots.A), x))
  const bias = op.op === 'low_rank' && op.slots.Bbias !== undefined ? slot(op.slots.Bbias) : null
  return up.map((v, o) => Number(op.scale) * (v + (bias?.[o] ?? 0)))
}

/** One row through a linear layer W, b with the operation on it. */
export function applyLinear(
  op: LowRank | Magnitude | Scale,
  slot: Slots,
  w: Float32Array,
  bias: Float32Array | null,
  x: Float32Array,
): Float32Array {
  const b = bias ?? new Float32Array(w.length / x.length)
  if (op.op === 'low_rank') return add(add(multiply(w, x), b), lowRankDelta(op, slot, x))
  if (op.op === 'scale') {
    const l = slot(op.slots.l)
    if (op.side === 'input')
      return add(
        multiply(
          w,
          x.map((v, i) => v * l[i]!),
        ),
        b,
      )
    return add(multiply(w, x), b).map((v, o) => v * l[o]!)
  }
  const m = slot(op.slots.m)
  const plain = add(multiply(w, x), lowRankDelta(op, slot, x))
  const a = slot(op.slots.A)
  const up = slot(op.slots.B)
  return plain.map((v, o) => {
    let norm = 0
    for (let i = 0; i < op.in; i++) {
      let delta = 0
      for (let r = 0; r < op.rank; r++) delta += up[o * op.rank + r]! * a[r * op.in + i]!
      norm += (w[o * op.in + i]! + Number(op.scale) * delta) ** 2
    }
    return (m[o]! / Math.sqrt(norm)) * v + b[o]!
  })
}

/** Abramowitz and Stegun 7.1.26, to 1.5e-7. */
function erf(x: number): number {
  const t = 1 / (1 + 0.3275911 * Math.abs(x))
  const p =
    t *
    (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
  return Math.sign(x) * (1 - p * Math.exp(-x * x))
}

const ACTIVATIONS: Record<Bottleneck['activation'], (x: number) => number> = {
  relu: (x) => Math.max(0, x),
  gelu: (x) => (x / 2) * (1 + erf(x / Math.SQRT2)),
  gelu_new: (x) => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  silu: (x) => x / (1 + Math.exp(-x)),
  tanh: Math.tanh,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  leaky_relu: (x) => (x < 0 ? 0.01 * x : x),
  linear: (x) => x,
}

function layerNorm(x: Float32Array, w: Float32Array, b: Float32Array): Float32Array {
  const mean = x.reduce((s, v) => s + v, 0) / x.length
  const variance = x.reduce((s, v) => s + (v - mean) ** 2, 0) / x.length
  return x.map((v, i) => ((v - mean) / Math.sqrt(variance + 1e-5)) * w[i]! + b[i]!)
}

const readBy = (op: Bottleneck, h: Float32Array, x: Float32Array): Float32Array =>
  op.placement.startsWith('parallel') ? x : op.originalLnBefore ? add(h, x) : h

/** What multiplies u at every token of a call: the mean of its gates, 1 without one. */
export function gateOver(
  op: Bottleneck,
  slot: Slots,
  h: Float32Array[],
  x: Float32Array[],
): number {
  const { gateW, gateB } = op.slots
  if (!gateW || !gateB) return 1
  const gates = h.map(
    (row, i) => multiply(slot(gateW), readBy(op, row, x[i]!))[0]! + slot(gateB)[0]!,
  )
  return gates.reduce((sum, v) => sum + 1 / (1 + Math.exp(-v)), 0) / gates.length
}

/** What a block hands on after a sub-layer: h is the sub-layer's output, x the block's residual stream. */
export function applyBottleneck(
  op: Bottleneck,
  slot: Slots,
  h: Float32Array,
  x: Float32Array,
  gate: number,
): Float32Array {
  const s = op.slots
  const parallel = op.placement.startsWith('parallel')
  let z = readBy(op, h, x)
  const residual = op.residual === 'before_ln' ? h : z
  if (s.lnBeforeW && s.lnBeforeB) z = layerNorm(z, slot(s.lnBeforeW), slot(s.lnBeforeB))
  const biased = (w: string, b: string | undefined, v: Float32Array) => {
    const y = multiply(slot(w), v)
    return b === undefined ? y : add(y, slot(b))
  }
  const down = biased(s.downW, s.downB, z).map(ACTIVATIONS[op.activation])
  const scaling = s.scaling === undefined ? null : slot(s.scaling)
  const u = biased(s.upW, s.upB, down).map((v, i) => {
    if (scaling === null) return v * Number(op.scaling) * gate
    return v * scaling[op.scaling === 'channel' ? i : 0]! * gate
  })
  const norm = (v: Float32Array) =>
    s.lnAfterW && s.lnAfterB ? layerNorm(v, slot(s.lnAfterW), slot(s.lnAfterB)) : v
  const out = parallel
    ? add(norm(u), h)
    : op.adapterResidualBeforeLn
      ? norm(add(u, residual))
      : add(norm(u), residual)
  return op.originalLnAfter ? add(out, x) : out
}

export const rows = ({ shape, data }: Values): Float32Array[] => {
  const width = shape.at(-1)!
  return Array.from({ length: data.length / width }, (_, i) =>
    data.subarray(i * width, (i + 1) * width),
  )
}

export const at = <K extends Operation['op']>(operations: Operation[], op: K, site: string) =>
  operations.find((o): o is Extract<Operation, { op: K }> => o.op === op && o.site === site)!
