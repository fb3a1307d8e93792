import { toFloat32 } from '@graft/sdk/format/dtypes.ts'
import { expected, GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import type { Goldens } from '@graft/sdk/format/manifest.ts'
import { readSafetensors } from '@graft/sdk/format/safetensors.ts'
import { argmax } from '../sampling/argmax.ts'
import { type Deviation, judge, measure } from './compare.ts'

/** [positions x vocab] logits of a prompt at ascending positions, from the adapter or from the base alone. */
export type Score = (
  tokenIds: number[],
  adapted: boolean,
  positions: number[],
) => Promise<Float32Array>

/** Prompts at once: enough to fill a step, few enough that other requests find slots. */
const PROMPTS_AT_ONCE = 4

export interface GoldensReport {
  producer: string
  prompts: number
  /** The worst of all prompts; null when the goldens hold greedy tokens alone. */
  worst: Deviation | null
}

/**
 * Where greedy tokens are all there is, a step counts when its margin is far above numeric noise
 * of this precision, in logits.
 */
const GREEDY_MARGIN = {
  fp32: 1e-3,
  int8: 0.5,
  w8a8: 0.5,
  int4: 1,
  nf4: 1,
  'nf4-exact': 1,
} as const

/** What a lowered bank or cache adds to it. */
const LOWERED_MARGIN = { fp32: 1e-3, fp16: 0.05, int8: 0.5 } as const

export interface GoldensEngine {
  vocab: number
  maxPositions: number
  precision: keyof typeof GREEDY_MARGIN
  bankPrecision: keyof typeof LOWERED_MARGIN
  kvPrecision: keyof typeof LOWERED_MARGIN
}

const greedyMargin = ({ precision, bankPrecision, kvPrecision }: GoldensEngine): number =>
  Math.max(GREEDY_MARGIN[precision], LOWERED_MARGIN[bankPrecision], LOWERED_MARGIN[kvPrecision])

/** The precision whose tolerance applies: fp32 where nothing was rounded on the way. */
const toleranceOf = ({ precision, bankPrecision, kvPrecision }: GoldensEngine): string =>
  precision === 'fp32' && bankPrecision === 'fp32'
    ? kvPrecision
    : precision === 'fp32'
      ? bankPrecision
      : precision

const refuse = (message: string): never => {
  throw new GraftError('ERR_ADMISSION_FAILED', `goldens: ${message}`)
}

/** Logits by name from the goldens' blob, each [positions, vocab]. */
function openLogits(blob: Uint8Array, vocab: number) {
  const { tensors } = readSafetensors(blob)
  return (name: string, positions: number): Float32Array => {
    const tensor = tensors.get(name)
    if (!tensor) return refuse(`the logits blob must hold ${name}, which it does not`)
    const [rows, width] = tensor.shape
    if (tensor.shape.length !== 2 || rows !== positions || width !== vocab)
      refuse(expected(name, `[${positions}, ${vocab}]`, tensor.shape))
    return toFloat32(tensor.dtype, tensor.data)
  }
}

const best = (logits: Float32Array, at: number, vocab: number): number =>
  argmax(logits.subarray(at * vocab, (at + 1) * vocab))

/**
 * Logits [adapted, base] of prompt `index`. Settles both before it throws: a row still running would hold on to an
 * adapter that is being taken out.
 */
async function both(score: Score, index: number, tokenIds: number[], positions: number[]) {
  const results = await Promise.allSettled([
    score(tokenIds, true, positions),
    score(tokenIds, false, positions),
  ])
  const [adapted] = results
  // Weights that are finite and still overflow: the adapter's own fault, and no reason to try again.
  if (
    adapted.status === 'rejected' &&
    isGraftError(adapted.reason) &&
    adapted.reason.code === 'ERR_NON_FINITE'
  )
    refuse(`prompt ${index}: adapted logits must be finite, and the adapter's weights overflow`)
  return values(results) as [Float32Array, Float32Array]
}

function values<T>(results: PromiseSettledResult<T>[]): T[] {
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason
    return result.value
  })
}

/** How many greedy tokens are the goldens' where the base alone would say another. */
async function checkGreedy(
  prompt: Goldens['prompts'][number],
  index: number,
  score: Score,
  vocab: number,
  margin: number,
): Promise<number> {
  const { tokenIds, greedy } = prompt
  const ids = [...tokenIds, ...greedy.tokenIds]
  const positions = greedy.tokenIds.map((_, i) => tokenIds.length - 1 + i)
  const [adapted, base] = await both(score, index, ids, positions)
  let proven = 0
  for (const [i, want] of greedy.tokenIds.entries()) {
    if (greedy.margins[i]! < margin) continue
    const got = best(adapted, i, vocab)
    if (got !== want) refuse(`prompt ${index}: greedy token ${i} must be ${want}, got ${got}`)
    if (best(base, i, vocab) !== want) proven++
  }
  return proven
}

/**
 * Runs the adapter's golden prompts on this engine and compares.
 * @param blob bytes of Goldens.logits; null when no prompt has positions
 * @throws ERR_ADMISSION_FAILED naming the prompt and the measure that is out of tolerance
 */
export async function reproduceGoldens(
  goldens: Goldens,
  blob: Uint8Array,
  engine: GoldensEngine,
  score: Score,
): Promise<GoldensReport> {
  const { vocab } = engine
  const precision = toleranceOf(engine)
  const want = openLogits(blob, vocab)

  /** What one prompt proves: the number of differences from the base that hold. */
  async function check(prompt: Goldens['prompts'][number], i: number) {
    const { tokenIds, positions } = prompt
    const all = positions.length === 0 ? [...tokenIds, ...prompt.greedy.tokenIds] : tokenIds
    if (all.some((id) => id >= vocab)) refuse(`prompt ${i} has tokens beyond the vocabulary`)
    if (all.length > engine.maxPositions)
      refuse(expected(`prompt ${i}`, `at most ${engine.maxPositions} tokens`, all.length))
    if (positions.length === 0) {
      const proven = await checkGreedy(prompt, i, score, vocab, greedyMargin(engine))
      return { proven, deviation: null }
    }
    const pair = {
      base: want(`base.${i}`, positions.length),
      adapted: want(`adapted.${i}`, positions.length),
    }
    const [adapted, base] = await both(score, i, tokenIds, positions)
    const deviation = measure({ base, adapted }, pair)
    const still = pair.base.every((value, at) => value === pair.adapted[at])
    const wrong = still && precision !== 'fp32' ? null : judge(deviation, precision)
    if (wrong) refuse(`prompt ${i}: ${wrong}`)
    // Goldens that show no effect would admit the base itself under the adapter's name.
    return still ? { proven: 0, deviation: null } : { proven: 1, deviation }
  }

  let worst: Deviation | null = null
  let proven = 0
  for (let from = 0; from < goldens.prompts.length; from += PROMPTS_AT_ONCE) {
    const group = goldens.prompts.slice(from, from + PROMPTS_AT_ONCE)
    const checks = group.map((prompt, i) => check(prompt, from + i))
    for (const result of values(await Promise.allSettled(checks))) {
      proven += result.proven
      if (result.deviation) worst = worseOf(worst, result.deviation)
    }
  }
  if (proven === 0) refuse('no prompt shows an effect of the adapter, so nothing can be proven')
  return { producer: goldens.producer, prompts: goldens.prompts.length, worst }
}

const worseOf = (a: Deviation | null, b: Deviation): Deviation =>
  a === null
    ? b
    : {
        base: Math.max(a.base, b.base),
        adapted: Math.max(a.adapted, b.adapted),
        effectCosine: Math.min(a.effectCosine, b.effectCosine),
        effectNormRatio:
          Math.abs(a.effectNormRatio - 1) > Math.abs(b.effectNormRatio - 1)
            ? a.effectNormRatio
            : b.effectNormRatio,
      }
