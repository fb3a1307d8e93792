import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Engine } from '@graft/runner/engine/engine.ts'
import type { TextCodec } from '@graft/runner/tokenizer/tokenizer.ts'

const STORIES = join(import.meta.dirname, '../../../shared/data/text/tinystories_1000.json')
const LONGEST = 256

/** Tokens of the first TinyStories, one sequence a story; null where the data folder is absent. */
export async function storyTokens(codec: TextCodec, count: number): Promise<number[][] | null> {
  const text = await readFile(STORIES, 'utf8').catch(() => null)
  if (text === null) return null
  return (JSON.parse(text) as string[])
    .slice(0, count)
    .map((story) => codec.encodePrompt({ kind: 'text', text: story }).slice(0, LONGEST))
}

/** Mean negative log likelihood of each next token, in nats. */
export async function meanNll(engine: Engine, sequences: number[][]): Promise<number> {
  const { vocab } = engine.info
  let [sum, tokens] = [0, 0]
  for (const [sequence, tokenIds] of sequences.entries()) {
    await engine.open(sequence, [])
    const { rows } = await engine.step([{ sequence, tokenIds, logits: 'all' }])
    await engine.close(sequence)
    const { logits } = rows[0]!
    for (let t = 0; t + 1 < tokenIds.length; t++) {
      const row = logits.subarray(t * vocab, (t + 1) * vocab)
      sum += logSumExp(row) - row[tokenIds[t + 1]!]!
      tokens++
    }
  }
  return sum / tokens
}

function logSumExp(values: Float32Array): number {
  let most = -Infinity
  for (const value of values) if (value > most) most = value
  let sum = 0
  for (const value of values) sum += Math.exp(value - most)
  return most + Math.log(sum)
}
