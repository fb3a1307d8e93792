import type { Engine } from '@graft/runner/engine/engine.ts'

export type Terms = Parameters<Engine['open']>[1]

/** Worst |a - b| as a share of the largest |b|. */
export function worstShare(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) throw new Error(`${a.length} logits against ${b.length}`)
  let [worst, most] = [0, 0]
  for (let i = 0; i < a.length; i++) {
    const diff = Math.abs(a[i]! - b[i]!)
    if (!(diff <= worst)) worst = diff
    most = Math.max(most, Math.abs(b[i]!))
  }
  return worst / most
}

let next = 1_000
/** Ids that no other helper uses. */
export const freshId = (): number => next++

/** Logits of all positions [tokens, vocab] of one sequence run on its own. */
export async function logitsOf(engine: Engine, terms: Terms, tokens: number[]) {
  const id = freshId()
  await engine.open(id, terms)
  const { rows } = await engine.step([{ sequence: id, tokenIds: tokens, logits: 'all' }])
  await engine.close(id)
  return rows[0]!.logits
}

/** Several sequences together: prompts in one step, then their answers token by token in decode batches. */
export async function logitsTogether(
  engine: Engine,
  runs: { terms: Terms; prompt: number[]; answer: number[] }[],
): Promise<Float32Array[]> {
  const open = runs.map((run) => ({ ...run, id: freshId(), parts: [] as Float32Array[] }))
  for (const { id, terms } of open) await engine.open(id, terms)
  const take = async (rows: Parameters<Engine['step']>[0]) => {
    for (const { sequence, logits } of (await engine.step(rows)).rows)
      open.find(({ id }) => id === sequence)!.parts.push(logits)
  }
  await take(open.map(({ id, prompt }) => ({ sequence: id, tokenIds: prompt, logits: 'all' })))
  for (let t = 0; open.some(({ answer }) => t < answer.length); t++)
    await take(
      open.flatMap(({ id, answer }) =>
        t < answer.length ? [{ sequence: id, tokenIds: [answer[t]!], logits: 'all' as const }] : [],
      ),
    )
  for (const { id } of open) await engine.close(id)
  return open.map(({ parts }) => Float32Array.from(parts.flatMap((part) => [...part])))
}
