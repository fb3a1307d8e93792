import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { isDecimal, toDecimal } from '@graft/sdk/format/decimal.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { Dense } from '@graft/sdk/format/operations.ts'
import type { Collector } from '../compiled.ts'
import type { ModuleSource } from './compile-module.ts'
import { refuseMethod } from './keys.ts'

/** LyCORIS' own methods on a linear layer, by the slots of their tensors; they are PEFT's LoHa and LoKr to the letter. */
export function compileLycoris(
  collector: Collector,
  sites: BaseSites,
  { name, keys, site, scaleOf }: ModuleSource,
): Dense {
  const { others } = keys
  const [first = ''] = Object.values(others)
  const method = first.includes('.hada_') ? 'LoHa' : 'LoKr'
  if (keys.dora !== undefined) refuseMethod(keys.dora, `${method} with DoRA (dora_scale)`)
  const linear = sites.linear(site)
  if (linear === null) return refuseMethod(first, `${method} on a convolution`)
  const shape = (slot: string): number[] => {
    const found = others[slot] === undefined ? undefined : collector.peek(others[slot])?.shape
    if (found?.length === 2) return found
    if (found !== undefined) return refuseMethod(others[slot]!, `${method} on a convolution`)
    throw new GraftError(
      'ERR_TENSOR_MISSING',
      `module ${name} has ${Object.keys(others).join(', ')} but no ${slot}`,
    )
  }
  const need = (slot: string, want: readonly number[]): void => {
    if (shape(slot).join() !== want.join())
      throw new GraftError(
        'ERR_TENSOR_SHAPE',
        `${expected(`module ${name}: ${slot}`, `[${want}] for ${linear.in} -> ${linear.out} as in the base`, shape(slot))}; the adapter was trained on another base`,
      )
  }
  const scale = (rank: number): string => {
    const text = toDecimal(scaleOf(rank))
    if (isDecimal(text)) return text
    throw new GraftError(
      'ERR_CONFIG_INVALID',
      expected(`module ${name}: alpha`, 'of a usual magnitude', text),
    )
  }
  const dense = { op: 'dense', site, in: linear.in, out: linear.out } as const
  if (method === 'LoHa') {
    const [, rank = 0] = shape('hada_w1_a')
    for (const slot of ['hada_w1_a', 'hada_w2_a']) need(slot, [linear.out, rank])
    for (const slot of ['hada_w1_b', 'hada_w2_b']) need(slot, [rank, linear.in])
    const take = (part: string): string =>
      collector.take(others[`hada_${part.slice(0, 2)}_${part[2]}`]!, site, `loha.${part}`)
    return {
      ...dense,
      form: 'hadamard',
      rank,
      scale: scale(rank),
      slots: { w1a: take('w1a'), w1b: take('w1b'), w2a: take('w2a'), w2b: take('w2b') },
    }
  }
  const one = kroneckerSide('w1', others, shape, need)
  const two = kroneckerSide('w2', others, shape, need)
  const out = one.shape[0]! * two.shape[0]!
  const inside = one.shape[1]! * two.shape[1]!
  if (out !== linear.out || inside !== linear.in)
    throw new GraftError(
      'ERR_TENSOR_SHAPE',
      `${expected(`module ${name}`, `${linear.in} -> ${linear.out} as in the base`, `${inside} -> ${out}`)}; the adapter was trained on another base`,
    )
  const rank = one.rank ?? two.rank
  const slots = Object.fromEntries(
    [...one.slots, ...two.slots].map((slot) => {
      const part = slot.slice('lokr_'.length).replace('_', '')
      return [part, collector.take(others[slot]!, site, `lokr.${part}`)]
    }),
  )
  return {
    ...dense,
    form: 'kronecker',
    // With both sides whole no rank is left to divide by: LyCORIS takes 1, whatever alpha says.
    scale: rank === undefined ? '1' : scale(rank),
    shape1: one.shape,
    shape2: two.shape,
    ...(one.rank === undefined ? {} : { rank1: one.rank }),
    ...(two.rank === undefined ? {} : { rank2: two.rank }),
    slots,
  }
}

/** A side is whole, or a product of two. */
function kroneckerSide(
  side: 'w1' | 'w2',
  others: Record<string, string>,
  shape: (slot: string) => number[],
  need: (slot: string, want: readonly number[]) => void,
): { shape: number[]; rank: number | undefined; slots: string[] } {
  const whole = `lokr_${side}`
  if (others[whole] !== undefined) return { shape: shape(whole), rank: undefined, slots: [whole] }
  const [a, b] = [`${whole}_a`, `${whole}_b`]
  const [rows = 0, rank = 0] = shape(a)
  const [, columns = 0] = shape(b)
  need(b, [rank, columns])
  return { shape: [rows, columns], rank, slots: [a, b] }
}
