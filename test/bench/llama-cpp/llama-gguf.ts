import type { Checkpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { linearSites } from '@graft/runner/engine/graph/sites.ts'
import { GGML_TYPE, type GgufTensor, type GgufValue, writeGguf } from './gguf.ts'
import { BYTE_TOKENS, pieces, SPECIAL } from './vocabulary.ts'
import type { WeightClass } from './weight-class.ts'

/** Names of a block's modules in llama.cpp, by their names in the checkpoint. */
const MODULES: Record<string, string> = {
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
  input_layernorm: 'attn_norm',
  post_attention_layernorm: 'ffn_norm',
}

const ggmlName = (path: string): string => {
  const [, layer, module] = /^model\.layers\.(\d+)\.(.+)$/.exec(path)!
  return `blk.${layer}.${MODULES[module!]}.weight`
}

/**
 * llama.cpp turns neighbours (2j, 2j + 1) of a head, the checkpoint turns (j, j + headDim / 2): rows of q and k stand in
 * another order. @returns for each row of the file, the row of the checkpoint
 */
function rowOrder(path: string, rows: number, headDim: number): number[] | null {
  if (!/\.(q|k)_proj$/.test(path)) return null
  return Array.from({ length: rows }, (_, row) => {
    const inHead = row % headDim
    return row - inHead + (inHead % 2) * (headDim / 2) + Math.floor(inHead / 2)
  })
}

function reordered(w: Float32Array, width: number, order: number[] | null): Float32Array {
  if (!order) return w
  const out = new Float32Array(w.length)
  for (const [to, from] of order.entries())
    out.set(w.subarray(from * width, (from + 1) * width), to * width)
  return out
}

const asBytes = (w: Float32Array): Uint8Array =>
  new Uint8Array(w.buffer, w.byteOffset, w.byteLength)

/** The base as a GGUF of one class; embeddings and head too. @param checkpoint on the class's grid */
export async function writeBaseGguf(
  path: string,
  { config, f32 }: Checkpoint,
  { type, fileType, pack }: WeightClass,
): Promise<void> {
  const { hidden, vocab, layers, heads, kvHeads, headDim } = config
  // A random base hands out the same array for many modules: each is packed once.
  const packed = new Map<Float32Array, Map<boolean, Uint8Array>>()
  const packOnce = (w: Float32Array, inner: number, order: number[] | null): Uint8Array => {
    const forms = packed.get(w) ?? new Map<boolean, Uint8Array>()
    packed.set(w, forms)
    const data = forms.get(order !== null) ?? pack(reordered(w, inner, order), inner)
    forms.set(order !== null, data)
    return data
  }
  const matrix = (name: string, source: string, out: number, inner: number): GgufTensor => ({
    name,
    dims: [inner, out],
    type,
    data: packOnce(f32(`${source}.weight`, [out, inner]), inner, rowOrder(source, out, headDim)),
  })
  const norm = (name: string, source: string): GgufTensor => ({
    name,
    dims: [hidden],
    type: GGML_TYPE.F32,
    data: asBytes(f32(`${source}.weight`, [hidden])),
  })
  const tensors = [
    matrix('token_embd.weight', 'model.embed_tokens', vocab, hidden),
    matrix('output.weight', 'lm_head', vocab, hidden),
    norm('output_norm.weight', 'model.norm'),
    ...linearSites(config).map((site) => matrix(ggmlName(site.path), site.path, site.out, site.in)),
    ...Array.from({ length: layers }, (_, layer) =>
      ['input_layernorm', 'post_attention_layernorm'].map((name) => {
        const source = `model.layers.${layer}.${name}`
        return norm(ggmlName(source), source)
      }),
    ).flat(),
  ]
  const metadata: Record<string, GgufValue> = {
    'general.architecture': { text: 'llama' },
    'general.name': { text: 'random' },
    'general.file_type': { u32: fileType },
    'llama.context_length': { u32: config.maxPositions },
    'llama.embedding_length': { u32: hidden },
    'llama.block_count': { u32: layers },
    'llama.feed_forward_length': { u32: config.intermediate },
    'llama.attention.head_count': { u32: heads },
    'llama.attention.head_count_kv': { u32: kvHeads },
    'llama.attention.layer_norm_rms_epsilon': { f32: config.normEpsilon },
    'llama.rope.dimension_count': { u32: headDim },
    'llama.rope.freq_base': { f32: config.ropeTheta },
    'llama.vocab_size': { u32: vocab },
    ...vocabularyMetadata(vocab),
  }
  await writeGguf(path, metadata, tensors)
}

/** llama.h: LLAMA_TOKEN_TYPE_*. */
const TOKEN_TYPE = { normal: 1, unknown: 2, control: 3, byte: 6 } as const

function vocabularyMetadata(vocab: number): Record<string, GgufValue> {
  const type = (id: number): number => {
    if (id === SPECIAL.unknown) return TOKEN_TYPE.unknown
    if (id < BYTE_TOKENS) return TOKEN_TYPE.control
    return id < BYTE_TOKENS + 256 ? TOKEN_TYPE.byte : TOKEN_TYPE.normal
  }
  const ids = Array.from({ length: vocab }, (_, id) => id)
  return {
    'tokenizer.ggml.model': { text: 'llama' },
    'tokenizer.ggml.tokens': { texts: pieces(vocab) },
    'tokenizer.ggml.scores': { f32s: ids.map((id) => -id) },
    'tokenizer.ggml.token_type': { i32s: ids.map(type) },
    'tokenizer.ggml.bos_token_id': { u32: SPECIAL.begin },
    'tokenizer.ggml.eos_token_id': { u32: SPECIAL.end },
  }
}

/** A LoRA adapter as llama.cpp's own converter writes it: f32, alpha for the scale. */
export async function writeLoraGguf(
  path: string,
  { operations, tensors }: LoadedAdapter,
  headDim: number,
): Promise<void> {
  let alpha = 0
  const rows = operations.flatMap((operation): GgufTensor[] => {
    if (operation.op !== 'low_rank') throw new Error(`${operation.op} is not LoRA`)
    const { site, in: inner, out, rank, slots, scale } = operation
    alpha = Number(scale) * rank
    const a = tensors.get(slots.A)!.data
    const b = reordered(tensors.get(slots.B)!.data, rank, rowOrder(site, out, headDim))
    const tensor = (suffix: string, dims: number[], data: Float32Array): GgufTensor => ({
      name: `${ggmlName(site)}.${suffix}`,
      dims,
      type: GGML_TYPE.F32,
      data: asBytes(data),
    })
    return [tensor('lora_a', [inner, rank], a), tensor('lora_b', [rank, out], b)]
  })
  const metadata: Record<string, GgufValue> = {
    'general.architecture': { text: 'llama' },
    'general.type': { text: 'adapter' },
    'adapter.type': { text: 'lora' },
    'adapter.lora.alpha': { f32: alpha },
  }
  await writeGguf(path, metadata, rows)
}
