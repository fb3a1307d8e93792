import { sameBytes } from '@graft/sdk/format/byte-source.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { Prefix } from '@graft/sdk/format/operations.ts'
import { heldTensor, readTensor } from '@graft/sdk/format/tensor-source.ts'
import { type Block, blockTransform, cutBlock } from '../blocks.ts'
import type { CompiledPart } from '../compiled.ts'
import type { ConfigReader } from '../config-keys.ts'
import { adaptedLayers, type Work } from './work.ts'

const refuse = (message: string): never => {
  throw new GraftError('ERR_METHOD_UNSUPPORTED', message)
}

/** The tool takes head_dim from the width, whatever the base's config says of it. */
function headsOf({ baseConfig, hidden }: Work): { heads: number; headDim: number } {
  const number = (...names: string[]): number | null => {
    for (const name of names) {
      const value = baseConfig?.[name]
      if (Number.isSafeInteger(value) && (value as number) > 0) return value as number
    }
    return null
  }
  const attention = number('num_attention_heads', 'n_head')
  if (attention === null)
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      "a prefix is split by heads, which only the base's config.json says; import with it (num_attention_heads)",
    )
  return { heads: number('num_key_value_heads') ?? attention, headDim: hidden / attention }
}

/** The prefix and its copies: the library saves it once per block beside the one of the model. */
function prefixKeys({ collector, name }: Work): { first: string; copies: string[] } {
  const own = collector.keys.filter((key) => key.includes(`prefix_tunings.${name}.`))
  const place = /\.([a-z_0-9]+)\.(wte|control_trans)(?:$|\.)/
  for (const key of own) {
    const [, location, part] = place.exec(key) ?? []
    if (location !== undefined && location !== 'self_prefix')
      refuse(
        `tensor ${key} is a prefix of ${location}; only decoders' and encoders' own attention has prefixes here`,
      )
    if (part === 'wte' || !key.endsWith('.control_trans'))
      refuse(
        `tensor ${key}: the prefix is made by a network that only the library evaluates. Make it flat: p = model.base_model.prefix_tuning.prefix_tunings["${name}"]["self_prefix"]; model.add_adapter("flat", config=PrefixTuningConfig(flat=True, prefix_length=p.config.prefix_length)); model.base_model.prefix_tuning.prefix_tunings["flat"]["self_prefix"].control_trans.data = p.control_trans(p.wte.weight).detach().flatten(); then save "flat"`,
      )
  }
  const [first, ...copies] = own.toSorted((a, b) => a.length - b.length || (a < b ? -1 : 1))
  if (first !== undefined) return { first, copies }
  throw new GraftError(
    'ERR_TENSOR_MISSING',
    `no tensor "...prefix_tunings.${name}.self_prefix.control_trans", which is the whole prefix`,
  )
}

/**
 * Prefix tuning: one row of numbers [tokens, 2 * layers, heads, headDim]. The library puts the prefix into the attention
 * and counts positions without it.
 */
export async function compilePrefix(work: Work, config: ConfigReader): Promise<CompiledPart> {
  const { collector, family, sites, blocks } = work
  if (!family.prefix) return refuse('prefix tuning has no place in this family of models')
  const layers = adaptedLayers(work, config)
  const { heads, headDim } = headsOf(work)
  const { first, copies } = prefixKeys(work)
  // Held whole: every plane is cut out of all of it, and once more for each copy when the way back is proven.
  const tensor = heldTensor(await readTensor(collector.peek(first)!))
  const count = layers.length * 2
  const virtualTokens = config.integer('prefix_length', 1, 30)
  const want = virtualTokens * count * heads * headDim
  if (tensor.shape.join() !== `${want}`)
    throw new GraftError(
      'ERR_TENSOR_SHAPE',
      expected(
        `tensor ${first}`,
        `[${want}]: ${virtualTokens} tokens, 2 x ${layers.length} layers, ${heads} heads of ${headDim}`,
        tensor.shape,
      ),
    )
  const view = [virtualTokens, count, heads, headDim]
  const plane = (index: number, site: string, slot: 'k' | 'v'): string => {
    const begin = [0, index, 0, 0]
    const block: Block = {
      view,
      begin,
      end: [virtualTokens, index + 1, heads, headDim],
      axes: [1, 2, 0, 3],
    }
    const cut = cutBlock(tensor, block, [heads, virtualTokens, headDim])
    return collector.add(first, site, `prefix.${slot}`, cut, blockTransform(block, tensor.shape))
  }
  const operations = layers.map((layer, i): Prefix => {
    const site = `${blocks[layer]}.${family.attention}`
    const keys =
      'k' in family.projections ? sites.linear(`${blocks[layer]}.${family.projections.k}`) : null
    if (keys !== null && keys.out !== heads * headDim)
      throw new GraftError(
        'ERR_TENSOR_SHAPE',
        expected('a key of the prefix', `of ${keys.out} numbers, as in the base`, heads * headDim),
      )
    const slots = { k: plane(i * 2, site, 'k'), v: plane(i * 2 + 1, site, 'v') }
    return { op: 'prefix', site, kvHeads: heads, headDim, virtualTokens, firstPosition: 0, slots }
  })
  for (const key of copies) {
    if (!(await sameBytes(collector.peek(key)!.data, tensor.data)))
      throw new GraftError('ERR_TENSOR_UNMATCHED', `${key} must hold the same values as ${first}`)
    collector.use(key)
    collector.keyMap.push({ key, tensor: operations[0]!.slots.k, transform: `copy ${first}` })
  }
  return { family: 'prefix', flags: [], operations, training: { prefix_length: virtualTokens } }
}
