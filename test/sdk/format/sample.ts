import { describeBase } from '@graft/sdk/format/base-identity.ts'
import { sha256 } from '@graft/sdk/format/digest.ts'
import { MANIFEST_SCHEMA, type Manifest } from '@graft/sdk/format/manifest.ts'
import type { Operation } from '@graft/sdk/format/operations.ts'
import { type Tensor, writeSafetensors } from '@graft/sdk/format/safetensors.ts'

const encode = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))

export const f32 = (
  shape: number[],
  value: (i: number) => number = (i) => (i % 7) / 7 - 0.4,
): Tensor => {
  const values = Float32Array.from({ length: shape.reduce((n, d) => n * d, 1) }, (_, i) => value(i))
  return { dtype: 'F32', shape, data: new Uint8Array(values.buffer) }
}

/** One block of a Llama: hidden 8, 4 heads of 2, 2 key heads, feed forward 12, vocabulary 16. */
const WEIGHTS: Record<string, number[]> = {
  'model.embed_tokens.weight': [16, 8],
  'model.layers.0.input_layernorm.weight': [8],
  'model.layers.0.self_attn.q_proj.weight': [8, 8],
  'model.layers.0.self_attn.k_proj.weight': [4, 8],
  'model.layers.0.self_attn.v_proj.weight': [4, 8],
  'model.layers.0.self_attn.o_proj.weight': [8, 8],
  'model.layers.0.mlp.down_proj.weight': [8, 12],
  'model.norm.weight': [8],
}

export async function sampleBase() {
  const file = writeSafetensors(
    new Map(Object.entries(WEIGHTS).map(([name, shape]) => [name, f32(shape)])),
  )
  return describeBase({
    name: 'sample',
    configJson: encode({ architectures: ['LlamaForCausalLM'], model_type: 'llama' }),
    tokenizerJson: null,
    files: [
      { path: 'model.safetensors', size: file.length, sha256: await sha256(file), header: file },
    ],
  })
}

const Q = 'model.layers.0.self_attn.q_proj'
const DOWN = 'model.layers.0.mlp.down_proj'

/** One operation of every kind that the base above can carry. */
export const OPERATIONS: Operation[] = [
  {
    op: 'low_rank',
    site: Q,
    in: 8,
    out: 8,
    rank: 2,
    scale: '0.5',
    slots: { A: 'q.A', B: 'q.B', Bbias: 'q.b' },
  },
  {
    op: 'magnitude',
    site: DOWN,
    in: 12,
    out: 8,
    rank: 1,
    scale: '2',
    slots: { A: 'd.A', B: 'd.B', m: 'd.m' },
  },
  { op: 'scale', site: DOWN, side: 'input', size: 12, slots: { l: 'd.l' } },
  {
    op: 'bottleneck',
    site: 'model.layers.0',
    placement: 'ffn',
    hidden: 8,
    reduced: 2,
    activation: 'relu',
    originalLnBefore: true,
    originalLnAfter: true,
    residual: 'before_ln',
    adapterResidualBeforeLn: false,
    scaling: 'channel',
    slots: { downW: 'bn.d', downB: 'bn.db', upW: 'bn.u', upB: 'bn.ub', scaling: 'bn.s' },
  },
  {
    op: 'prefix',
    site: 'model.layers.0.self_attn',
    kvHeads: 2,
    headDim: 2,
    virtualTokens: 3,
    slots: { k: 'p.k', v: 'p.v' },
  },
  { op: 'prompt', site: 'model.embed_tokens', virtualTokens: 2, hidden: 8, slots: { E: 'E' } },
  { op: 'replace', site: 'model.norm', param: 'weight', shape: [8], slots: { value: 'norm' } },
  {
    op: 'replace',
    site: 'model.embed_tokens',
    param: 'weight',
    shape: [2, 8],
    rows: [3, 9],
    slots: { value: 'rows' },
  },
  {
    op: 'dense',
    form: 'matrix',
    site: 'model.layers.0.self_attn.k_proj',
    in: 8,
    out: 4,
    slots: { dW: 'k.dW' },
  },
]

export const TENSORS = (): Map<string, Tensor> =>
  new Map([
    ['q.A', f32([2, 8])],
    ['q.B', f32([8, 2])],
    ['q.b', f32([8])],
    ['d.A', f32([1, 12])],
    ['d.B', f32([8, 1])],
    ['d.m', f32([8])],
    ['d.l', f32([12])],
    ['bn.d', f32([2, 8])],
    ['bn.db', f32([2])],
    ['bn.u', f32([8, 2])],
    ['bn.ub', f32([8])],
    ['bn.s', f32([8])],
    ['p.k', f32([2, 3, 2])],
    ['p.v', f32([2, 3, 2])],
    ['E', f32([2, 8])],
    ['norm', f32([8])],
    ['rows', f32([2, 8])],
    ['k.dW', f32([4, 8])],
  ])

/** A manifest about exactly these tensors; `operations` must use them all. */
export async function sampleAdapter(operations = OPERATIONS, tensors = TENSORS()) {
  const used = new Set(operations.flatMap((op) => Object.values(op.slots) as string[]))
  const kept = new Map([...tensors].filter(([name]) => used.has(name)))
  const safetensors = writeSafetensors(kept)
  const base = await sampleBase()
  const manifest: Manifest = {
    schema: MANIFEST_SCHEMA,
    name: '@acme/sample',
    version: '1.0.0',
    base: base.identity,
    method: { family: 'lora', flags: [] },
    operations,
    tensors: await Promise.all(
      [...kept].map(async ([name, { dtype, shape, data }]) => {
        return { name, dtype, shape, sha256: await sha256(data) }
      }),
    ),
    files: [
      {
        path: 'adapter.safetensors',
        size: safetensors.length,
        sha256: await sha256(safetensors),
        role: 'canonical',
        mediaType: 'application/vnd.safetensors',
      },
    ],
    origin: null,
    crit: [],
  }
  return { manifest, safetensors, base }
}
