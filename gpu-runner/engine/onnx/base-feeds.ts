import type { ModelConfig } from '../../checkpoint/model-config.ts'
import type { KvCache } from '../bank/kv-cache.ts'
import { flags, floats, longs, type Ort } from './ort.ts'
import type { Run } from './plan-runs.ts'

type Feeds = Record<string, Ort.Tensor>

/** Inputs that every variant has: ids, positions, what may be attended to, past rows, positions whose logits are wanted. */
export function baseFeeds(config: ModelConfig, cache: KvCache, run: Run, take: number[]): Feeds {
  const { heads, kvHeads, headDim, layers } = config
  const batch = run.rows.length
  const { tokens, firstSlot } = run
  const group = heads / kvHeads
  const capacity = cache.capacity
  const ids = new BigInt64Array(batch * tokens)
  const pos = new BigInt64Array(batch * tokens)
  const width = capacity + tokens
  const visible = new Uint8Array(batch * group * tokens * width)
  for (const [b, entry] of run.rows.entries()) {
    const past = entry?.sequence.length ?? 0
    const virtual = entry?.sequence.pendingPrompt?.tokens ?? 0
    for (let t = 0; t < tokens; t++) {
      ids[b * tokens + t] = BigInt(entry && t >= virtual ? entry.row.tokenIds[t - virtual]! : 0)
      pos[b * tokens + t] = BigInt(past + t)
      for (let g = 0; g < group; g++) {
        const at = ((b * group + g) * tokens + t) * width
        visible.fill(1, at, at + past)
        visible.fill(1, at + capacity, at + capacity + t + 1)
      }
    }
  }
  const feeds: Feeds = {
    ids: longs(ids, [batch, tokens]),
    pos: longs(pos, [batch, tokens]),
    visible: flags(visible, [batch, 1, group * tokens, width]),
    split: longs(BigInt64Array.of(BigInt(capacity), BigInt(tokens)), [2]),
    take: longs(BigInt64Array.from(take, BigInt), [take.length]),
  }
  const dims = [batch, kvHeads, capacity, headDim]
  for (let layer = 0; layer < layers; layer++) {
    feeds[`past.${layer}.k`] = floats(cache.view('k', layer, firstSlot, batch), dims)
    feeds[`past.${layer}.v`] = floats(cache.view('v', layer, firstSlot, batch), dims)
  }
  return feeds
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
    'virtual.mask': flags(mask, [batch, run.tokens, 1]),
    'virtual.embeddings': floats(embeddings, [batch, run.tokens, hidden]),
  }
}
