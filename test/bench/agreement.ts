import type { Engine, LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { randomPrompt } from './rows.ts'
import { rounded } from './statistics.ts'

/** An arm whose bank is below fp32 counts only when it passes both (shares of positions, nats). */
export const AGREEMENT = { top1: 0.995, kl: 1e-3 }

export interface Agreement {
  /** Share of positions whose most probable token is the same. */
  top1: number
  /** Mean KL divergence of the other's distribution from the reference's. */
  kl: number
  positions: number
  passes: boolean
}

/** Prompt tokens of each row that is compared: 16 rows then give 2,048 positions. */
const TOKENS = 128

/** Logits [positions, vocab] of one prompt under one adapter. */
async function score(engine: Engine, adapter: LoadedAdapter, tokenIds: number[], sequence: number) {
  await engine.open(sequence, [{ digest: adapter.digest, weight: 1 }])
  try {
    const { rows } = await engine.step([{ sequence, tokenIds, logits: 'all' }])
    return rows[0]!.logits
  } finally {
    await engine.close(sequence)
  }
}

/** log softmax of one position, and where it is highest. */
function distribution(logits: Float32Array) {
  let best = 0
  for (let id = 1; id < logits.length; id++) if (logits[id]! > logits[best]!) best = id
  let sum = 0
  for (let id = 0; id < logits.length; id++) sum += Math.exp(logits[id]! - logits[best]!)
  return { best, norm: logits[best]! + Math.log(sum) }
}

/** Whether two banks give the same answers: each adapter reads a prompt on both engines. Both must hold the adapters. */
export async function bankAgreement(
  reference: Engine,
  other: Engine,
  adapters: readonly LoadedAdapter[],
  firstSequence: number,
): Promise<Agreement> {
  const { vocab } = reference.info
  let same = 0
  let divergence = 0
  let positions = 0
  for (const [row, adapter] of adapters.entries()) {
    const prompt = randomPrompt(row, TOKENS, vocab)
    const want = await score(reference, adapter, prompt, firstSequence + row)
    const got = await score(other, adapter, prompt, firstSequence + row)
    for (let at = 0; at < want.length; at += vocab) {
      const p = want.subarray(at, at + vocab)
      const q = got.subarray(at, at + vocab)
      const [dp, dq] = [distribution(p), distribution(q)]
      if (dp.best === dq.best) same++
      for (let id = 0; id < vocab; id++) {
        const logp = p[id]! - dp.norm
        divergence += Math.exp(logp) * (logp - (q[id]! - dq.norm))
      }
      positions++
    }
  }
  const top1 = same / positions
  const kl = divergence / positions
  const passes = top1 >= AGREEMENT.top1 && kl <= AGREEMENT.kl
  return { top1: rounded(top1), kl: rounded(kl, 3), positions, passes }
}
