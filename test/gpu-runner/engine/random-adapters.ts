import type { LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import type { Activation, Bottleneck, Operation } from '@graft/sdk/format/operations.ts'
import { normals, TINY } from './tiny-checkpoint.ts'

const { hidden, intermediate, layers, kvHeads, headDim, vocab } = TINY
const kvWidth = kvHeads * headDim

export const LINEARS: [name: string, inner: number, out: number][] = [
  ['self_attn.q_proj', hidden, hidden],
  ['self_attn.k_proj', hidden, kvWidth],
  ['self_attn.v_proj', hidden, kvWidth],
  ['self_attn.o_proj', hidden, hidden],
  ['mlp.gate_proj', hidden, intermediate],
  ['mlp.up_proj', hidden, intermediate],
  ['mlp.down_proj', intermediate, hidden],
]

/** Collects operations and their seeded random tensors. */
export function builder(seed: number) {
  const normal = normals(seed)
  const adapter: LoadedAdapter = {
    digest: fromHex(seed.toString(16).padStart(64, '0')),
    operations: [],
    tensors: new Map(),
  }
  return {
    adapter,
    tensor(name: string, shape: number[], std: number, mean = 0): string {
      const data = Float32Array.from(
        { length: shape.reduce((a, b) => a * b, 1) },
        () => mean + std * normal(),
      )
      adapter.tensors.set(name, { shape, data })
      return name
    },
    add(operation: Operation): void {
      adapter.operations.push(operation)
    },
  }
}

export function eachLinear(
  visit: (site: string, inner: number, out: number, at: number) => void,
): void {
  for (let layer = 0; layer < layers; layer++)
    for (const [i, [name, inner, out]] of LINEARS.entries())
      visit(`model.layers.${layer}.${name}`, inner, out, layer * LINEARS.length + i)
}

/** LoRA on all linears; ranks differ from site to site. */
export function lowRank(seed: number, rank = 4, std = 0.2): LoadedAdapter {
  const { adapter, tensor, add } = builder(seed)
  eachLinear((site, inner, out, at) => {
    const r = 1 + ((rank + at - 1) % (2 * rank))
    add({
      op: 'low_rank',
      site,
      in: inner,
      out,
      rank: r,
      scale: '0.75',
      slots: {
        A: tensor(`${site}.A`, [r, inner], std),
        B: tensor(`${site}.B`, [out, r], std),
      },
    })
  })
  return adapter
}

/** LoRA on all linears with AdaLoRA's E on every other and VeRA's D on two of three; one B is shared, as VeRA's are. */
export function factored(seed: number): LoadedAdapter {
  const { adapter, tensor, add } = builder(seed)
  const rank = 4
  eachLinear((site, inner, out, at) => {
    const E = at % 2 === 0 ? { E: tensor(`${site}.E`, [rank], 0.8) } : {}
    const D = at % 3 !== 1 ? { D: tensor(`${site}.D`, [out], 0.8) } : {}
    const A = tensor(`${site}.A`, [rank, inner], 0.4)
    const shared = `@shared.B.${out}`
    const B = adapter.tensors.has(shared) ? shared : tensor(shared, [out, rank], 0.4)
    add({ op: 'low_rank', site, in: inner, out, rank, scale: '0.5', slots: { A, B, ...E, ...D } })
  })
  return adapter
}

export function dora(seed: number): LoadedAdapter {
  const { adapter, tensor, add } = builder(seed)
  eachLinear((site, inner, out, at) => {
    if (at % 3 === 2) return
    add({
      op: 'magnitude',
      site,
      in: inner,
      out,
      rank: 3,
      scale: '1.5',
      slots: {
        A: tensor(`${site}.A`, [3, inner], 0.2),
        B: tensor(`${site}.B`, [out, 3], 0.2),
        m: tensor(`${site}.m`, [out], 0.2, 1.6),
      },
    })
  })
  return adapter
}

export function ia3(seed: number): LoadedAdapter {
  const { adapter, tensor, add } = builder(seed)
  eachLinear((site, inner, out) => {
    const side = site.endsWith('down_proj') ? 'input' : 'output'
    if (!/(k_proj|v_proj|down_proj)$/.test(site)) return
    const size = side === 'input' ? inner : out
    add({ op: 'scale', site, side, size, slots: { l: tensor(`${site}.l`, [size], 0.4, 1) } })
  })
  return adapter
}

export function bottleneck(
  seed: number,
  activation: Activation,
  places: Bottleneck['placement'][] = ['attention', 'ffn'],
  options: Partial<
    Pick<
      Bottleneck,
      'originalLnBefore' | 'originalLnAfter' | 'residual' | 'adapterResidualBeforeLn' | 'scaling'
    >
  > & { norms?: ('lnBefore' | 'lnAfter')[]; gated?: boolean; reduced?: number } = {},
): LoadedAdapter {
  const { adapter, tensor, add } = builder(seed)
  const { norms = [], gated, reduced: width = 5, ...order } = options
  const scaling = options.scaling ?? '0.5'
  for (let layer = 0; layer < layers; layer++)
    for (const placement of places) {
      const site = `model.layers.${layer}`
      const key = `${site}.${placement}`
      const reduced = width + layer
      add({
        op: 'bottleneck',
        site,
        placement,
        hidden,
        reduced,
        activation,
        originalLnBefore: placement === 'ffn',
        originalLnAfter: true,
        residual: 'before_ln',
        adapterResidualBeforeLn: false,
        ...order,
        scaling,
        slots: {
          downW: tensor(`${key}.downW`, [reduced, hidden], 0.3),
          downB: tensor(`${key}.downB`, [reduced], 0.3),
          upW: tensor(`${key}.upW`, [hidden, reduced], 0.3),
          upB: tensor(`${key}.upB`, [hidden], 0.3),
          ...Object.fromEntries(
            norms.flatMap((norm) => [
              [`${norm}W`, tensor(`${key}.${norm}W`, [hidden], 0.3, 1)],
              [`${norm}B`, tensor(`${key}.${norm}B`, [hidden], 0.3)],
            ]),
          ),
          ...(gated && { gateW: tensor(`${key}.gateW`, [1, hidden], 0.3) }),
          ...(gated && { gateB: tensor(`${key}.gateB`, [1], 0.3) }),
          ...(scaling === 'learned' && { scaling: tensor(`${key}.s`, [1], 0.3, 1) }),
          ...(scaling === 'channel' && { scaling: tensor(`${key}.s`, [hidden], 0.3, 1) }),
        },
      })
    }
  return adapter
}

export function prefix(seed: number, virtualTokens = 5): LoadedAdapter {
  const { adapter, tensor, add } = builder(seed)
  const shape = [kvHeads, virtualTokens, headDim]
  for (let layer = 0; layer < layers; layer++) {
    const site = `model.layers.${layer}.self_attn`
    add({
      op: 'prefix',
      site,
      kvHeads,
      headDim,
      virtualTokens,
      slots: { k: tensor(`${site}.k`, shape, 1), v: tensor(`${site}.v`, shape, 1) },
    })
  }
  return adapter
}

export function prompt(seed: number, virtualTokens = 4): LoadedAdapter {
  const { adapter, tensor, add } = builder(seed)
  add({
    op: 'prompt',
    site: 'model.embed_tokens',
    virtualTokens,
    hidden,
    slots: { E: tensor('E', [virtualTokens, hidden], 1) },
  })
  return adapter
}

/** Another head, and LoRA beside it. */
export function head(seed: number): LoadedAdapter {
  const { adapter, tensor, add } = builder(seed)
  const lora = lowRank(seed + 1_000_000)
  for (const operation of lora.operations) add(operation)
  for (const [name, value] of lora.tensors) adapter.tensors.set(name, value)
  const shape = [vocab, hidden]
  add({
    op: 'replace',
    site: 'lm_head',
    param: 'weight',
    shape,
    slots: { value: tensor('head', shape, 0.3) },
  })
  return adapter
}

/** Trainable tokens: some rows of the embedding, or all of them. */
export function embeddings(seed: number, rows?: number[]): LoadedAdapter {
  const { adapter, tensor, add } = builder(seed)
  const shape = [rows?.length ?? vocab, hidden]
  add({
    op: 'replace',
    site: 'model.embed_tokens',
    param: 'weight',
    shape,
    ...(rows && { rows }),
    slots: { value: tensor('rows', shape, 1) },
  })
  return adapter
}

/** Two adapters as one, under the first one's digest. */
function both(first: LoadedAdapter, second: LoadedAdapter): LoadedAdapter {
  return {
    digest: first.digest,
    operations: [...first.operations, ...second.operations],
    tensors: new Map([...first.tensors, ...second.tensors]),
  }
}

/** Whole tensors of the blocks instead of the base's, and LoRA's own bias beside them. */
export function ownTensors(
  seed: number,
  parts: ('norms' | 'linears' | 'bias' | 'head rows')[],
): LoadedAdapter {
  const { adapter, tensor, add } = builder(seed)
  const replace = (site: string, shape: number[], std: number, mean = 0, rows?: number[]) =>
    add({
      op: 'replace',
      site,
      param: 'weight',
      shape,
      ...(rows && { rows }),
      slots: { value: tensor(`${site}.own`, shape, std, mean) },
    })
  if (parts.includes('norms'))
    for (const site of [
      'model.layers.0.input_layernorm',
      'model.layers.1.post_attention_layernorm',
      'model.norm',
    ])
      replace(site, [hidden], 0.4, 1)
  if (parts.includes('head rows')) replace('lm_head', [3, hidden], 0.3, 0, [2, 60, 127])
  eachLinear((site, inner, out, at) => {
    if (parts.includes('linears') && at % 5 === 1) replace(site, [out, inner], 0.2)
    if (!parts.includes('bias') || at % 3 === 1) return
    const slots = {
      A: tensor(`${site}.A`, [2, inner], 0.2),
      B: tensor(`${site}.B`, [out, 2], 0.2),
      Bbias: tensor(`${site}.Bbias`, [out], 0.3),
    }
    add({ op: 'low_rank', site, in: inner, out, rank: 2, scale: '1.5', slots })
  })
  return adapter
}

/** One adapter of every operation and option, by name. */
export const everyOperation = (): Record<string, LoadedAdapter> => ({
  'low_rank, rank 4': lowRank(1),
  'low_rank, rank 1': lowRank(2, 1),
  'low_rank with factors of rank and output': factored(33),
  magnitude: dora(3),
  'scale in and out': ia3(4),
  'bottleneck relu': bottleneck(5, 'relu'),
  'bottleneck silu, ffn only': bottleneck(6, 'silu', ['ffn']),
  'bottleneck gelu, learned scaling': bottleneck(7, 'gelu', undefined, { scaling: 'learned' }),
  'bottleneck gelu_new, scaling per channel': bottleneck(8, 'gelu_new', undefined, {
    scaling: 'channel',
  }),
  'bottleneck tanh before the add': bottleneck(9, 'tanh', undefined, { originalLnBefore: false }),
  'bottleneck sigmoid': bottleneck(10, 'sigmoid', ['attention']),
  'bottleneck leaky_relu': bottleneck(11, 'leaky_relu'),
  'bottleneck linear': bottleneck(12, 'linear'),
  prefix: prefix(13),
  prompt: prompt(14),
  'replace lm_head with low_rank': head(15),
  'replace rows of embed_tokens': embeddings(16, [3, 7, 11, 60]),
  'replace embed_tokens': embeddings(17),
  'bottleneck parallel, without its stream': bottleneck(
    18,
    'relu',
    ['parallel_attention', 'parallel_ffn'],
    {
      originalLnAfter: false,
    },
  ),
  'bottleneck after the ffn alone, its stream twice': bottleneck(19, 'silu', ['ffn'], {
    originalLnBefore: true,
    residual: 'after_ln',
  }),
  'bottleneck with norms around it': bottleneck(20, 'gelu', undefined, {
    norms: ['lnBefore', 'lnAfter'],
    adapterResidualBeforeLn: true,
  }),
  'bottleneck gated, with a norm after it': bottleneck(21, 'tanh', undefined, {
    norms: ['lnAfter'],
    gated: true,
  }),
  'bottleneck plain after the attention, with a norm after the ffn': both(
    bottleneck(27, 'relu', ['attention']),
    bottleneck(28, 'relu', ['ffn'], { norms: ['lnAfter'] }),
  ),
  'bottleneck of two pages': bottleneck(29, 'silu', undefined, { reduced: 20 }),
  'replace norms': ownTensors(22, ['norms']),
  'replace linears': ownTensors(23, ['linears']),
  'low_rank with a bias': ownTensors(24, ['bias']),
  'replace norms, linears and rows of lm_head': ownTensors(25, ['norms', 'linears', 'head rows']),
  'low_rank with a bias and norms of its own': ownTensors(26, ['norms', 'bias']),
})
