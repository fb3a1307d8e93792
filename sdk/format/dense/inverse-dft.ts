/** Replaces x by its inverse discrete Fourier transform, x'[p] = 1/n sum_k x[k] e^(2 pi i k p / n). */
export type Transform = (real: Float64Array, imaginary: Float64Array) => void

/**
 * Of any length, in f64: Cooley and Tukey's division by each prime factor, smallest first in place, so that 4096 takes 12
 * passes of 2 and 11008 = 2^8 * 43 one of 43 and eight of 2.
 */
export function inverseDft(n: number): Transform {
  const cosine = Float64Array.from({ length: n }, (_, k) => Math.cos((2 * Math.PI * k) / n))
  const sine = Float64Array.from({ length: n }, (_, k) => Math.sin((2 * Math.PI * k) / n))
  // The largest first: passes of 2, which are the quick ones, then run over what is long.
  const factors = primeFactors(n).reverse()
  const source = digitReversed(n, factors)
  const real = new Float64Array(n)
  const imaginary = new Float64Array(n)

  /** Joins the transforms of `prime` parts of `part` elements each, from `begin` on. */
  function join(begin: number, part: number, prime: number): void {
    const step = n / (part * prime)
    const a = new Float64Array(prime)
    const b = new Float64Array(prime)
    for (let k = begin; k < begin + part; k++) {
      for (let q = 0; q < prime; q++) {
        a[q] = real[k + q * part]!
        b[q] = imaginary[k + q * part]!
      }
      for (let p = 0; p < prime; p++) {
        const turn = (p * part + k - begin) * step
        let [sumReal, sumImaginary, at] = [0, 0, 0]
        for (let q = 0; q < prime; q++) {
          sumReal += a[q]! * cosine[at]! - b[q]! * sine[at]!
          sumImaginary += a[q]! * sine[at]! + b[q]! * cosine[at]!
          at = (at + turn) % n
        }
        real[k + p * part] = sumReal
        imaginary[k + p * part] = sumImaginary
      }
    }
  }

  function joinPairs(begin: number, part: number): void {
    const step = n / (2 * part)
    for (let k = begin, at = 0; k < begin + part; k++, at += step) {
      const other = k + part
      const turnedReal = real[other]! * cosine[at]! - imaginary[other]! * sine[at]!
      const turnedImaginary = real[other]! * sine[at]! + imaginary[other]! * cosine[at]!
      real[other] = real[k]! - turnedReal
      imaginary[other] = imaginary[k]! - turnedImaginary
      real[k]! += turnedReal
      imaginary[k]! += turnedImaginary
    }
  }

  return (ofReal, ofImaginary) => {
    for (let i = 0; i < n; i++) {
      real[i] = ofReal[source[i]!]!
      imaginary[i] = ofImaginary[source[i]!]!
    }
    let part = 1
    for (const prime of factors) {
      for (let begin = 0; begin < n; begin += part * prime)
        if (prime === 2) joinPairs(begin, part)
        else join(begin, part, prime)
      part *= prime
    }
    for (let i = 0; i < n; i++) {
      ofReal[i] = real[i]! / n
      ofImaginary[i] = imaginary[i]! / n
    }
  }
}

/** Which element stands where, so that every pass joins neighbours. */
function digitReversed(n: number, factors: readonly number[]): Uint32Array {
  return Uint32Array.from({ length: n }, (_, place) => {
    let at = 0
    let rest = place
    let stride = n
    for (const prime of factors) {
      stride /= prime
      at += (rest % prime) * stride
      rest = Math.floor(rest / prime)
    }
    return at
  })
}

/** Ascending, with repetitions; [] for 1. */
function primeFactors(n: number): number[] {
  const factors: number[] = []
  for (let p = 2; n > 1; p++) for (; n % p === 0; n /= p) factors.push(p)
  return factors
}
