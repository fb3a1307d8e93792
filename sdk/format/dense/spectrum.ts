import { inverseDft } from './inverse-dft.ts'
import type { RowMap } from './row-map.ts'

/**
 * FourierFT (arXiv 2405.03003): W + scale * Re(ifft2(D)), D [out, in] zero but for values[k] at (rows[k], columns[k]).
 * The sum over rows is taken once, per column that has a value; then a row of dW is one transform.
 */
export function spectrumRows(
  values: Float32Array,
  rows: ArrayLike<number>,
  columns: ArrayLike<number>,
  { in: inner, out, scale }: { in: number; out: number; scale: number },
): RowMap {
  const filled = new Map<number, { real: Float64Array; imaginary: Float64Array }>()
  for (let k = 0; k < values.length; k++) {
    const column = filled.get(columns[k]!) ?? {
      real: new Float64Array(out),
      imaginary: new Float64Array(out),
    }
    filled.set(columns[k]!, column)
    column.real[rows[k]!] = values[k]!
  }
  const transformColumn = inverseDft(out)
  for (const { real, imaginary } of filled.values()) transformColumn(real, imaginary)
  const transformRow = inverseDft(inner)
  const real = new Float64Array(inner)
  const imaginary = new Float64Array(inner)
  return (row, o) => {
    real.fill(0)
    imaginary.fill(0)
    for (const [v, column] of filled) {
      real[v] = column.real[o]!
      imaginary[v] = column.imaginary[o]!
    }
    transformRow(real, imaginary)
    for (let i = 0; i < inner; i++) row[i]! += scale * real[i]!
  }
}

/**
 * ||scale * Re(ifft2(D))||_F by Parseval: the real part has the spectrum (D(u, v) + D(-u, -v)) / 2, indices modulo the
 * sizes. The same arguments as spectrumRows.
 */
export function spectrumNorm(
  values: Float32Array,
  rows: ArrayLike<number>,
  columns: ArrayLike<number>,
  { in: inner, out, scale }: { in: number; out: number; scale: number },
): number {
  const at = new Map<number, number>()
  for (let k = 0; k < values.length; k++) at.set(rows[k]! * inner + columns[k]!, values[k]!)
  let squares = 0
  for (const [place, value] of at) {
    const u = Math.floor(place / inner)
    const mirror = ((out - u) % out) * inner + ((inner - (place % inner)) % inner)
    const other = at.get(mirror)
    // A lone value stands in both halves of the symmetric spectrum, each with half of it.
    squares += other === undefined ? value ** 2 / 2 : ((value + other) / 2) ** 2
  }
  return Math.abs(scale) * Math.sqrt(squares / (inner * out))
}
