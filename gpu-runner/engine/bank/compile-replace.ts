import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Replace } from '@graft/sdk/format/operations.ts'
import type { Checkpoint } from '../../checkpoint/read-checkpoint.ts'
import { transpose } from '../graph/linear-weights.ts'
import { normSites } from '../graph/norm-sites.ts'
import { linearSites } from '../graph/sites.ts'
import { widest } from '../graph/variants.ts'
import type { Take } from './compile-adapter.ts'
import type { CompiledAdapter } from './compiled-adapter.ts'

const unsupported = (message: string): GraftError =>
  new GraftError('ERR_OPERATION_UNSUPPORTED', message)

/**
 * Another tensor instead of the base's: the head or rows of it, the embedding or rows of it, norms, linears of the blocks.
 * Biases are compiled with all else that reaches a bias: compile-shifts.ts.
 */
export function addReplace(
  compiled: CompiledAdapter,
  operation: Replace,
  take: Take,
  checkpoint: Checkpoint,
): void {
  const { site, param, rows, slots } = operation
  const linear = linearSites(checkpoint.config).find(({ path }) => path === site)
  if (param === 'bias') {
    if (linear) return
    throw unsupported(`replace of ${param} at ${site}: this engine replaces biases of linears only`)
  }
  if (site === 'lm_head') {
    addHead(compiled, operation, take, checkpoint)
    return
  }
  if (site === 'model.embed_tokens') {
    addEmbedding(compiled, operation, take, checkpoint)
    return
  }
  if (rows) throw unsupported(`replace of single rows at ${site}`)
  const { own } = compiled
  const norms = normSites(checkpoint.config)
  const norm = norms.indexOf(site)
  if (norm >= 0) {
    const { hidden } = checkpoint.config
    own.norms ??= baseNorms(checkpoint, norms)
    own.norms.set(take(slots.value, [hidden]), norm * hidden)
    return
  }
  if (!linear)
    throw unsupported(
      `replace at ${site}: this engine replaces norms, linears of the blocks, lm_head and model.embed_tokens`,
    )
  if (own.linears.has(site)) throw unsupported(`${site} is replaced twice`)
  const { in: inner, out } = linear
  own.linears.set(site, transpose(take(slots.value, [out, inner]), out, inner))
}

/** [norms, hidden] */
function baseNorms({ f32, config }: Checkpoint, sites: string[]): Float32Array {
  const whole = new Float32Array(sites.length * config.hidden)
  for (const [i, site] of sites.entries())
    whole.set(f32(`${site}.weight`, [config.hidden]), i * config.hidden)
  return whole
}

function addHead(
  compiled: CompiledAdapter,
  { rows, slots }: Replace,
  take: Take,
  { config: { vocab, hidden } }: Checkpoint,
): void {
  if (compiled.head || compiled.own.headRows) throw unsupported('lm_head is replaced twice')
  compiled.variant = widest([compiled.variant, 'full'])
  if (!rows) {
    compiled.head = transpose(take(slots.value, [vocab, hidden]), vocab, hidden)
    return
  }
  assertTokens('lm_head', rows, vocab)
  compiled.own.headRows = { ids: rows, values: take(slots.value, [rows.length, hidden]) }
}

function addEmbedding(
  compiled: CompiledAdapter,
  { rows, slots }: Replace,
  take: Take,
  { config: { vocab, hidden } }: Checkpoint,
): void {
  if (compiled.embeddings) throw unsupported('model.embed_tokens is replaced twice')
  const ids = rows ?? Array.from({ length: vocab }, (_, i) => i)
  assertTokens('model.embed_tokens', ids, vocab)
  const value = take(slots.value, [ids.length, hidden])
  compiled.embeddings = new Map(
    ids.map((id, i) => [id, value.subarray(i * hidden, (i + 1) * hidden)]),
  )
  compiled.variant = widest([compiled.variant, 'rich'])
}

function assertTokens(site: string, rows: number[], vocab: number): void {
  const beyond = rows.find((row) => row >= vocab)
  if (beyond !== undefined)
    throw unsupported(`replace of row ${beyond} at ${site}, which has ${vocab} rows`)
}
