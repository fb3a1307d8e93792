import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import { mulberry32 } from '../../random.ts'

/** A generator of normal numbers from a seed (mulberry32 and Box-Muller). */
export function normals(seed: number): () => number {
  const uniform = mulberry32(seed)
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform())
}

export const TINY = {
  hidden: 64,
  intermediate: 96,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 16,
  vocab: 128,
  maxPositions: 160,
}

/** Writes a seeded random Llama as a Hugging Face folder into a temporary directory. */
export async function writeTinyCheckpoint(
  seed = 11,
): Promise<{ dir: string; remove(): Promise<void> }> {
  const { hidden, intermediate, layers, heads, kvHeads, headDim, vocab, maxPositions } = TINY
  const normal = normals(seed)
  const tensors = new Map<string, { dtype: 'F32'; shape: number[]; data: Uint8Array }>()
  const add = (name: string, shape: number[], std: number, mean = 0) => {
    const values = Float32Array.from(
      { length: shape.reduce((a, b) => a * b, 1) },
      () => mean + std * normal(),
    )
    tensors.set(name, { dtype: 'F32', shape, data: new Uint8Array(values.buffer) })
  }
  add('model.embed_tokens.weight', [vocab, hidden], 1)
  add('lm_head.weight', [vocab, hidden], 0.3)
  add('model.norm.weight', [hidden], 0.1, 1)
  for (let l = 0; l < layers; l++) {
    const block = `model.layers.${l}`
    add(`${block}.input_layernorm.weight`, [hidden], 0.1, 1)
    add(`${block}.post_attention_layernorm.weight`, [hidden], 0.1, 1)
    add(`${block}.self_attn.q_proj.weight`, [heads * headDim, hidden], 0.2)
    add(`${block}.self_attn.k_proj.weight`, [kvHeads * headDim, hidden], 0.2)
    add(`${block}.self_attn.v_proj.weight`, [kvHeads * headDim, hidden], 0.2)
    add(`${block}.self_attn.o_proj.weight`, [hidden, heads * headDim], 0.2)
    add(`${block}.mlp.gate_proj.weight`, [intermediate, hidden], 0.15)
    add(`${block}.mlp.up_proj.weight`, [intermediate, hidden], 0.15)
    add(`${block}.mlp.down_proj.weight`, [hidden, intermediate], 0.15)
  }
  const dir = await mkdtemp(join(tmpdir(), 'graft-tiny-'))
  await mkdir(dir, { recursive: true })
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: vocab,
    hidden_size: hidden,
    intermediate_size: intermediate,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headDim,
    max_position_embeddings: maxPositions,
    rope_theta: 10_000,
    rms_norm_eps: 1e-5,
    hidden_act: 'silu',
    tie_word_embeddings: false,
  }
  await writeFile(join(dir, 'config.json'), JSON.stringify(config))
  await writeFile(join(dir, 'model.safetensors'), writeSafetensors(tensors))
  return { dir, remove: () => rm(dir, { recursive: true, force: true }) }
}
