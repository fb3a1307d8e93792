import type { Engine } from '../engine/engine.ts'

/** Tokens of one step: what the scheduler would feed. */
const CHUNK = 128

/**
 * Logits of a prompt at ascending positions on an engine that nobody else uses yet. [positions x vocab]
 * @param sequence a number that is not open there
 */
export async function scoreAlone(
  engine: Engine,
  sequence: number,
  tokenIds: number[],
  positions: number[],
): Promise<Float32Array> {
  const { vocab } = engine.info
  const out = new Float32Array(positions.length * vocab)
  await engine.open(sequence, [])
  try {
    for (let from = 0; from < tokenIds.length; from += CHUNK) {
      const chunk = tokenIds.slice(from, from + CHUNK)
      const { rows } = await engine.step([{ sequence, tokenIds: chunk, logits: 'all' }])
      const { logits } = rows[0]!
      for (const [i, at] of positions.entries())
        if (at >= from && at < from + chunk.length)
          out.set(logits.subarray((at - from) * vocab, (at - from + 1) * vocab), i * vocab)
    }
    return out
  } finally {
    await engine.close(sequence)
  }
}
