/** How far a runner's logits may be from the goldens': design, "goldens". */
export const FP32_TOLERANCE = 1e-4
export const MIN_EFFECT_COSINE = 0.95
export const EFFECT_NORM_RATIO = [0.9, 1.1] as const

/** [positions x vocab] logits of one prompt, flattened. */
export interface LogitsPair {
  base: Float32Array
  adapted: Float32Array
}

export interface Deviation {
  /** max |got - want| / max |want|. */
  base: number
  adapted: number
  /** Of (adapted - base): cosine with the goldens' and ratio of norms. */
  effectCosine: number
  effectNormRatio: number
}

/** max |got - want| / max |want|; NaN anywhere gives Infinity. */
export function relativeError(got: Float32Array, want: Float32Array): number {
  let worst = 0
  let scale = 0
  for (let i = 0; i < want.length; i++) {
    const error = Math.abs(got[i]! - want[i]!)
    if (!(error <= worst)) worst = error
    scale = Math.max(scale, Math.abs(want[i]!))
  }
  const ratio = worst / scale
  return Number.isNaN(ratio) ? Number.POSITIVE_INFINITY : ratio
}

export function measure(got: LogitsPair, want: LogitsPair): Deviation {
  let dot = 0
  let gotSquare = 0
  let wantSquare = 0
  for (let i = 0; i < want.adapted.length; i++) {
    const mine = got.adapted[i]! - got.base[i]!
    const theirs = want.adapted[i]! - want.base[i]!
    dot += mine * theirs
    gotSquare += mine * mine
    wantSquare += theirs * theirs
  }
  return {
    base: relativeError(got.base, want.base),
    adapted: relativeError(got.adapted, want.adapted),
    effectCosine: dot / Math.sqrt(gotSquare * wantSquare),
    effectNormRatio: Math.sqrt(gotSquare / wantSquare),
  }
}

const digits = (value: number): string => value.toPrecision(3)

/** The first thing that is out of tolerance, in words; null when the goldens are reproduced. */
export function judge(deviation: Deviation, precision: string): string | null {
  const { base, adapted, effectCosine, effectNormRatio } = deviation
  if (precision === 'fp32') {
    if (!(base <= FP32_TOLERANCE))
      return `base logits must be within ${FP32_TOLERANCE} of max|logit|, got ${digits(base)}`
    if (!(adapted <= FP32_TOLERANCE))
      return `adapted logits must be within ${FP32_TOLERANCE} of max|logit|, got ${digits(adapted)}`
    return null
  }
  if (!(effectCosine >= MIN_EFFECT_COSINE))
    return `effect must have a cosine of at least ${MIN_EFFECT_COSINE}, got ${digits(effectCosine)}`
  const [low, high] = EFFECT_NORM_RATIO
  if (!(effectNormRatio >= low && effectNormRatio <= high))
    return `effect's norm ratio must be within ${low}..${high}, got ${digits(effectNormRatio)}`
  return null
}
