import { toFloat32 } from '@graft/sdk/format/dtypes.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { Goldens } from '@graft/sdk/format/manifest.ts'
import { readSafetensors } from '@graft/sdk/format/safetensors.ts'
import { argmax } from '../sampling/sample.ts'
import { type Deviation, judge, measure } from './compare.ts'

/** [tokens x vocab] logits of every position of a prompt. */
export type Score = (tokenIds: number[], adapted: boolean) => Promise<Float32Array>

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
const GREEDY_MARGIN = { fp32: 1e-3, fp16: 0.05, int8: 0.5, int4: 1 } as const

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

/** Logits at the given positions: [tokens x vocab] -> [positions x vocab]. */
function pick(logits: Float32Array, positions: number[], vocab: number): Float32Array {
  const out = new Float32Array(positions.length * vocab)
  for (const [i, at] of positions.entries())
    out.set(logits.subarray(at * vocab, (at + 1) * vocab), i * vocab)
  return out
}

const best = (logits: Float32Array, at: number, vocab: number): number =>
  argmax(logits.subarray(at * vocab, (at + 1) * vocab))

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
  const adapted = await score(ids, true)
  const base = await score(ids, false)
  let proven = 0
  for (const [i, want] of greedy.tokenIds.entries()) {
    if (greedy.margins[i]! < margin) continue
    const at = tokenIds.length - 1 + i
    const got = best(adapted, at, vocab)
    if (got !== want) refuse(`prompt ${index}: greedy token ${i} must be ${want}, got ${got}`)
    if (best(base, at, vocab) !== want) proven++
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
  engine: { vocab: number; precision: keyof typeof GREEDY_MARGIN },
  score: Score,
): Promise<GoldensReport> {
  const { vocab, precision } = engine
  const want = openLogits(blob, vocab)
  let worst: Deviation | null = null
  let proven = 0
  for (const [i, prompt] of goldens.prompts.entries()) {
    const { tokenIds, positions } = prompt
    if (tokenIds.some((id) => id >= vocab)) refuse(`prompt ${i} has tokens beyond the vocabulary`)
    if (positions.length === 0) {
      proven += await checkGreedy(prompt, i, score, vocab, GREEDY_MARGIN[precision])
      continue
    }
    const pair = {
      base: want(`base.${i}`, positions.length),
      adapted: want(`adapted.${i}`, positions.length),
    }
    const deviation = measure(
      {
        base: pick(await score(tokenIds, false), positions, vocab),
        adapted: pick(await score(tokenIds, true), positions, vocab),
      },
      pair,
    )
    const still = pair.base.every((value, at) => value === pair.adapted[at])
    const wrong = still && precision !== 'fp32' ? null : judge(deviation, precision)
    if (wrong) refuse(`prompt ${i}: ${wrong}`)
    // Goldens that show no effect would admit the base itself under the adapter's name.
    if (still) continue
    proven++
    worst = worseOf(worst, deviation)
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
