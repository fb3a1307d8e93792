import { GraftError } from '@graft/sdk/format/errors.ts'
import type { AdmissionPolicy } from '../admission/admission.ts'
import { reproduceGoldens } from '../admission/goldens.ts'
import type { Engine } from '../engine/engine.ts'
import { type AdapterFacts, labelOf } from '../tiers/adapter-facts.ts'
import { scoreAlone } from './score-alone.ts'

/** Logits of the base alone, run beside everybody else's rows. */
export type ScoreBase = (tokenIds: number[], positions: number[]) => Promise<Float32Array>

/**
 * The goldens of the adapter, reproduced on its merged form: quantising W + delta may lose what quantising W alone kept.
 * @param logits the goldens' blob
 * @throws ERR_ADMISSION_FAILED naming the prompt and the measure
 */
export async function proveMerged(
  merged: Engine,
  facts: AdapterFacts,
  logits: Uint8Array | null,
  policy: AdmissionPolicy,
  scoreBase: ScoreBase,
): Promise<void> {
  const { goldens } = facts
  if (!goldens || !logits) {
    if (policy === 'allow-unproven') return
    throw new GraftError(
      'ERR_ADMISSION_FAILED',
      `goldens: ${labelOf(facts)} has none, so its merged form cannot be proven; it goes on unmerged`,
    )
  }
  let sequence = 0
  await reproduceGoldens(goldens, logits, merged.info, (tokenIds, adapted, positions) =>
    adapted ? scoreAlone(merged, ++sequence, tokenIds, positions) : scoreBase(tokenIds, positions),
  )
}
