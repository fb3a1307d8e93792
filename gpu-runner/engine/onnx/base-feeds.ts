import type { ModelConfig } from '../../checkpoint/model-config.ts'
import { flags, floats, longs, type Ort } from './ort.ts'
import type { Run } from './plan-runs.ts'

type Feeds = Record<string, Ort.Tensor>

/**
 * Inputs that every graph has beside those of its attention: ids, positions, positions whose logits are wanted.
 * @param least fewest positions: logits of one that nobody asked for are dropped
 */
export function baseFeeds(run: Run, take: number[], least: 0 | 1): Feeds {
  const batch = run.rows.length
  const { tokens } = run
  const ids = new BigInt64Array(batch * tokens)
  const pos = new BigInt64Array(batch * tokens)
  for (const [b, entry] of run.rows.entries()) {
    const past = entry?.sequence.length ?? 0
    const virtual = entry?.sequence.pendingPrompt?.tokens ?? 0
    for (let t = 0; t < tokens; t++) {
      ids[b * tokens + t] = BigInt(entry && t >= virtual ? entry.row.tokenIds[t - virtual]! : 0)
      pos[b * tokens + t] = BigInt(past + t)
    }
  }
  return {
    ids: longs(ids, [batch * tokens]),
    pos: longs(pos, [batch, tokens]),
    grid: longs(BigInt64Array.of(BigInt(batch), BigInt(tokens), -1n), [3]),
    take: positions(take, least),
  }
}

function positions(take: number[], least: 0 | 1): Ort.Tensor {
  const some = take.length < least ? [0] : take
  return longs(BigInt64Array.from(some, BigInt), [some.length])
}

/** Embeddings that come from adapters instead of the base's table: virtual tokens and replaced rows. */
export function virtualFeeds(config: ModelConfig, run: Run): Feeds {
  const { hidden } = config
  const batch = run.rows.length
  const mask = new Uint8Array(batch * run.tokens)
  const embeddings = new Float32Array(batch * run.tokens * hidden)
  for (const [b, entry] of run.rows.entries()) {
    if (!entry) continue
    const { pendingPrompt, binding } = entry.sequence
    const virtual = pendingPrompt?.tokens ?? 0
    mask.fill(1, b * run.tokens, b * run.tokens + virtual)
    if (pendingPrompt) embeddings.set(pendingPrompt.embeddings, b * run.tokens * hidden)
    const replaced = binding.terms[0]?.adapter.embeddings
    if (replaced)
      for (const [i, id] of entry.row.tokenIds.entries()) {
        const row = replaced.get(id)
        if (!row) continue
        mask[b * run.tokens + virtual + i] = 1
        embeddings.set(row, (b * run.tokens + virtual + i) * hidden)
      }
  }
  return {
    'virtual.mask': flags(mask, [batch * run.tokens, 1]),
    'virtual.embeddings': floats(embeddings, [batch * run.tokens, hidden]),
  }
}
