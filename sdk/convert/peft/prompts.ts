import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { DTYPES, isDtype } from '@graft/sdk/format/dtypes.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { Prefix, Prompt } from '@graft/sdk/format/operations.ts'
import { derivedTensor, readTensor, type TensorSource } from '@graft/sdk/format/tensor-source.ts'
import type { Collector, CompiledPart } from '../compiled.ts'
import type { ConfigReader } from '../config-keys.ts'
import { embeddingPath, listBlocks } from '../layers.ts'
import { movePlane } from '../planes.ts'
import { compileExtras } from './extra.ts'

const KEY = 'prompt_embeddings'
const SAVED = 'base_model.'

function sourceTensor(collector: Collector, want: number[]): TensorSource {
  const tensor = collector.peek(KEY)
  if (tensor === null)
    throw new GraftError('ERR_TENSOR_MISSING', `tensor ${KEY} is absent; it is the whole adapter`)
  if (tensor.shape.join() !== want.join())
    throw new GraftError(
      'ERR_TENSOR_SHAPE',
      expected(`tensor ${KEY}`, `[${want}] as the config says`, tensor.shape),
    )
  return tensor
}

function readCommon(config: ConfigReader) {
  if (config.integer('num_transformer_submodules', 1, 1) !== 1)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      'num_transformer_submodules must be 1: encoder-decoder bases are not supported',
    )
  return {
    virtualTokens: config.integer('num_virtual_tokens', 1),
    dim: config.integer('token_dim', 1),
    layers: config.integer('num_layers', 1),
    heads: config.integer('num_attention_heads', 1),
  }
}

/** Prompt tuning and P-tuning: virtual embeddings before the first token. */
export function compilePrompt(
  collector: Collector,
  config: ConfigReader,
  sites: BaseSites,
  family: 'prompt' | 'p_tuning',
): CompiledPart {
  const { virtualTokens, dim: hidden } = readCommon(config)
  sourceTensor(collector, [virtualTokens, hidden])
  const site = embeddingPath(sites)
  const [, width] = sites.shape(`${site}.weight`)!
  if (width !== hidden)
    throw new GraftError(
      'ERR_TENSOR_SHAPE',
      expected('token_dim', `${width} as in the base`, hidden),
    )
  const E = collector.take(KEY, site, 'prompt.E')
  const op: Prompt = { op: 'prompt', site, virtualTokens, hidden, slots: { E } }
  const extras = savedModules(collector, config, sites)
  return { family, flags: extras.flags, operations: [op, ...extras.operations], training: {} }
}

/** modules_to_save of prompt methods, whose keys have a shorter prefix than those of adapted modules. */
function savedModules(collector: Collector, config: ConfigReader, sites: BaseSites) {
  const keys = collector.keys.filter((key) => key.startsWith(SAVED))
  const inner = new Map(keys.map((key) => [key.slice(SAVED.length), key]))
  return compileExtras(collector, sites, config, inner, 'none')
}

/**
 * Prefix tuning: per layer a plane of keys and one of values, out of [tokens, 2 * layers, heads, headDim].
 * PEFT writes them to the cache as they are, so they are never rotated.
 */
export function compilePrefix(
  collector: Collector,
  config: ConfigReader,
  sites: BaseSites,
): CompiledPart {
  const { virtualTokens, dim, layers, heads } = readCommon(config)
  const tensor = sourceTensor(collector, [virtualTokens, layers * 2 * dim])
  const blocks = listBlocks(sites)
  if (blocks.length !== layers)
    throw new GraftError(
      'ERR_TENSOR_SHAPE',
      expected('num_layers', `${blocks.length} as in the base`, layers),
    )
  if (dim % heads !== 0) config.fail('token_dim', `a multiple of num_attention_heads ${heads}`)
  if (!isDtype(tensor.dtype)) throw new TypeError(`unchecked dtype ${tensor.dtype}`)
  const headDim = dim / heads
  const rowBytes = (headDim * DTYPES[tensor.dtype].bits) / 8
  const sizes = { tokens: virtualTokens, count: layers * 2, heads, rowBytes }
  const plane = (index: number, site: string, slot: 'k' | 'v'): string => {
    const bytes = heads * virtualTokens * rowBytes
    const shape = [heads, virtualTokens, headDim]
    const split = derivedTensor(tensor.dtype, shape, bytes, async () => {
      const data = new Uint8Array(bytes)
      movePlane((await readTensor(tensor)).data, data, sizes, index, 'split')
      return data
    })
    const transform = `plane ${index},${layers * 2}`
    return collector.add(KEY, site, `prefix.${slot}`, split, transform)
  }
  const operations = blocks.map(({ attention: site }, layer): Prefix => {
    const keys = sites.linear(`${site}.k_proj`)
    if (keys !== null && keys.out !== dim)
      throw new GraftError(
        'ERR_TENSOR_SHAPE',
        expected('token_dim', `${keys.out}, the base's keys per token`, dim),
      )
    const slots = { k: plane(layer * 2, site, 'k'), v: plane(layer * 2 + 1, site, 'v') }
    return { op: 'prefix', site, kvHeads: heads, headDim, virtualTokens, slots }
  })
  const extras = savedModules(collector, config, sites)
  return {
    family: 'prefix',
    flags: extras.flags,
    operations: [...operations, ...extras.operations],
    training: {},
  }
}
