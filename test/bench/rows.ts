import type { Engine, LoadedAdapter } from '@graft/runner/engine/engine.ts'

/** Prompt tokens of one row and step: what the scheduler would feed. */
const CHUNK = 128

/** Sequences that decode together: one token each, every step. */
export interface Rows {
  /** One decode step of all rows. */
  step(): Promise<void>
  close(): Promise<void>
}

/** Token ids of a prompt; different in every row, so that no two rows could share work. */
export const randomPrompt = (row: number, length: number, vocab: number): number[] =>
  Array.from({ length }, (_, i) => 3 + ((row * 7919 + i * 104_729 + i * i * 31) % (vocab - 3)))

/**
 * Opens one row per entry, null for a row of the base alone, and reads a prompt of `past` tokens into each.
 * @param first the first sequence's number; an engine knows each number once
 * @param choose picks a row's next token from its [vocab] logits; without it every row is fed the same made-up tokens
 */
export async function openRows(
  engine: Engine,
  first: number,
  adapters: readonly (LoadedAdapter | null)[],
  past: number,
  choose?: (logits: Float32Array) => number,
): Promise<Rows> {
  const ids = adapters.map((_, row) => first + row)
  for (const [row, adapter] of adapters.entries()) {
    await engine.open(ids[row]!, adapter ? [{ digest: adapter.digest, weight: 1 }] : [])
    const prompt = randomPrompt(first + row, past, engine.info.vocab)
    for (let at = 0; at < past; at += CHUNK) {
      const tokenIds = prompt.slice(at, at + CHUNK)
      await engine.step([{ sequence: ids[row]!, tokenIds, logits: 'none' }])
    }
  }
  let token = 3
  let next = ids.map(() => token)
  return {
    async step() {
      const { rows } = await engine.step(
        ids.map((sequence, row) => ({ sequence, tokenIds: [next[row]!], logits: 'last' })),
      )
      token = 3 + ((token + 1) % 1000)
      next = rows.map(({ logits }) => choose?.(logits) ?? token)
    },
    async close() {
      for (const id of ids) await engine.close(id)
    },
  }
}
