import { GraftError } from '@graft/sdk/format/errors.ts'
import { checkKeys, type KeyTable, readConfig } from '../config-keys.ts'
import type { ConfigObject } from '../source-format.ts'
import type { Family } from './families.ts'

/** Written beside adapters of models that the library has no classes for. */
export const INTERFACE_FILE = 'adapter_interface.json'

const TOP: KeyTable = { interface: 'read', model_type: 'read', version: 'inert' }

const KEYS: KeyTable = {
  base_model: 'read',
  model_layers: 'read',
  layer_self_attn: 'read',
  attn_q_proj: 'read',
  attn_k_proj: 'read',
  attn_v_proj: 'read',
  attn_qkv_proj: 'read',
  layer_intermediate_proj: 'read',
  layer_output_proj: 'read',
  layer_ln_1: 'read',
  layer_ln_2: 'read',
  // What may be added to the model, not what this adapter is.
  adapter_methods: 'inert',
  // Places of methods that are refused, or of hooks whose effect the block's residual stream has anyway.
  attn_o_proj: 'inert',
  model_embeddings: 'inert',
  layer_cross_attn: 'inert',
  layer_pre_self_attn: 'inert',
  layer_pre_cross_attn: 'inert',
  layer_pre_ffn: 'inert',
}

/**
 * A family out of the names that the adapter's author gave the library.
 * @throws ERR_CONFIG_INVALID, ERR_CONFIG_UNKNOWN_KEY, ERR_BASE_MISMATCH
 */
export function readInterface(config: ConfigObject, path: string, modelType: string): Family {
  checkKeys(config, TOP, path)
  const top = readConfig(config, path)
  const inner = top.value('interface')
  if (typeof inner !== 'object' || inner === null || Array.isArray(inner))
    return top.fail('interface', 'an object of names')
  if (top.text('model_type') !== modelType)
    throw new GraftError(
      'ERR_BASE_MISMATCH',
      `${path} is of ${top.text('model_type')}, the base of ${modelType}`,
    )
  checkKeys(inner, KEYS, `${path}: interface`)
  const names = readConfig(inner, `${path}: interface`)
  const optional = (key: string): string | null =>
    names.value(key) === null ? null : names.text(key)
  const attention = names.text('layer_self_attn')
  const inAttention = (key: string) => `${attention}.${names.text(key)}`
  const base = optional('base_model')
  const plain = optional('layer_ln_1') === null && optional('layer_ln_2') === null
  return {
    blocks: names.text('model_layers'),
    prefixes: [...new Set([...(base === null ? [] : [`${base}.`]), 'model.', `${modelType}.`, ''])],
    attention,
    projections:
      optional('attn_qkv_proj') === null
        ? {
            q: inAttention('attn_q_proj'),
            k: inAttention('attn_k_proj'),
            v: inAttention('attn_v_proj'),
          }
        : { qkv: inAttention('attn_qkv_proj') },
    intermediate: optional('layer_intermediate_proj'),
    output: optional('layer_output_proj'),
    bottleneck: plain ? { attention: 'attention_adapters', ffn: 'output_adapters' } : null,
    postNorm: false,
    hooked: true,
    prefix: false,
    conv1d: false,
  }
}
