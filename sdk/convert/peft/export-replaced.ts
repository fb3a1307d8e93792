import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Replace } from '@graft/sdk/format/operations.ts'
import type { TensorSource } from '@graft/sdk/format/tensor-source.ts'
import type { ConfigFields } from './export-config.ts'

export interface ReplacedContext {
  tensors: ReadonlyMap<string, TensorSource>
  /** PEFT's path of a site. */
  pathOf(site: string): string
  /** Sites that carry the method's own operation. */
  adapted: ReadonlySet<string>
  /** Null without a base. */
  sites: BaseSites | null
  /** Of keys: `base_model.model.`, or `base_model.` with prompt methods. */
  prefix: string
}

export interface Replaced {
  tensors: Map<string, TensorSource>
  fields: ConfigFields
}

const EMBEDDING = /(?:^|\.)(?:embed_tokens|lm_head)$/

const refuse = (op: Replace, why: string): never => {
  throw new GraftError(
    'ERR_METHOD_UNSUPPORTED',
    `replace at ${op.site}.${op.param}: ${why}. Merge it into the base, or export to the tool that it came from`,
  )
}

/** A tied head repeats the rows of its embedding; PEFT ties them by itself. */
export function withoutTiedRows(ops: readonly Replace[]): Replace[] {
  const rows = ops.filter((op) => op.rows !== undefined)
  return ops.filter(
    (op) =>
      op.rows === undefined ||
      !/(?:^|\.)lm_head$/.test(op.site) ||
      !rows.some((other) => other !== op && other.slots.value === op.slots.value),
  )
}

/**
 * Tensors beside the method's own: modules_to_save, trained biases, token rows. PEFT's loader wants every parameter of a
 * saved module.
 * @throws ERR_METHOD_UNSUPPORTED
 */
export function exportReplaced(all: readonly Replace[], context: ReplacedContext): Replaced {
  const { tensors, pathOf, adapted, sites, prefix } = context
  const out = new Map<string, TensorSource>()
  const saved = new Set<string>()
  const tokens: Record<string, number[]> = {}
  let bias: 'none' | 'lora_only' | 'all' = 'none'
  const ops = withoutTiedRows(all)
  const has = (site: string, param: string): boolean =>
    ops.some((op) => op.site === site && op.param === param && op.rows === undefined)
  for (const op of ops) {
    const path = pathOf(op.site)
    const value = tensors.get(op.slots.value)!
    if (op.rows !== undefined) {
      if (op.param !== 'weight') refuse(op, 'PEFT replaces rows of embeddings only')
      tokens[path] = op.rows
      out.set(`${prefix}${path}.token_adapter.trainable_tokens_delta`, value)
    } else if (op.param === 'bias' && !has(op.site, 'weight')) {
      const inner = adapted.has(op.site)
      if (!inner) bias = 'all'
      else if (bias === 'none') bias = 'lora_only'
      out.set(`${prefix}${path}.${inner ? 'base_layer.' : ''}bias`, value)
    } else if (adapted.has(op.site)) {
      // Embeddings are the one thing that PEFT saves whole beside what it trains on them.
      if (!EMBEDDING.test(op.site)) refuse(op, 'PEFT does not save a module that it also adapts')
      out.set(`${prefix}${path}.base_layer.${op.param}`, value)
    } else {
      const hasBias = sites !== null && sites.shape(`${op.site}.bias`) !== null
      if (hasBias && !has(op.site, 'bias'))
        refuse(op, 'PEFT saves modules whole, and the bias of this one is not part of the adapter')
      saved.add(path)
      out.set(`${prefix}${path}.${op.param}`, value)
    }
  }
  return {
    tensors: out,
    fields: {
      modules_to_save: saved.size === 0 ? null : [...saved].sort(),
      ...(bias === 'none' ? {} : { bias }),
      ...(Object.keys(tokens).length === 0 ? {} : { trainable_token_indices: tokens }),
    },
  }
}
