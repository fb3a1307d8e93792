/**
 * How llama.cpp names the modules of a model family, as its converter does (conversion/*.py and gguf-py's tensor_mapping.py),
 * and whether it stores the rows of q and k in another order.
 */
export interface Architecture {
  /** `general.architecture`. */
  name: string
  /** config.json's model_type of the bases that are converted to it. */
  modelTypes: readonly string[]
  /** Path of the blocks in the checkpoint: `model.layers`. */
  blocks: string
  /** llama.cpp's name of a module, and its path inside its block. */
  modules: Readonly<Record<string, string>>
  /** Outside the blocks. */
  embedding: string
  /**
   * Rows of q and k are turned from halves to neighbours: llama.cpp rotates positions 2j and 2j + 1 of a head where the
   * checkpoint rotates j and j + headDim / 2. Families that it gives "NeoX" rotation keep the checkpoint's order.
   */
  turnsRows: boolean
}

const ATTENTION = {
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
}
const GATED = { ffn_gate: 'mlp.gate_proj', ffn_up: 'mlp.up_proj', ffn_down: 'mlp.down_proj' }

const decoder = (
  name: string,
  modelTypes: readonly string[],
  modules: Readonly<Record<string, string>> = { ...ATTENTION, ...GATED },
  turnsRows = false,
): Architecture => ({
  name,
  modelTypes,
  blocks: 'model.layers',
  modules,
  embedding: 'model.embed_tokens',
  turnsRows,
})

export const ARCHITECTURES: readonly Architecture[] = [
  // Mixtral's attention is Llama's; its experts are stacked, and refused where they are met.
  decoder('llama', ['llama', 'mistral', 'mixtral'], undefined, true),
  decoder('granite', ['granite'], undefined, true),
  decoder('smollm3', ['smollm3'], undefined, true),
  decoder('qwen2', ['qwen2']),
  decoder('qwen3', ['qwen3']),
  // Of families with experts the rest of a block: experts are stacked, and refused where they are met.
  decoder('qwen2moe', ['qwen2_moe'], {
    ...ATTENTION,
    ffn_gate_shexp: 'mlp.shared_expert.gate_proj',
    ffn_up_shexp: 'mlp.shared_expert.up_proj',
    ffn_down_shexp: 'mlp.shared_expert.down_proj',
  }),
  decoder('qwen3moe', ['qwen3_moe'], ATTENTION),
  decoder('command-r', ['cohere']),
  decoder('stablelm', ['stablelm']),
  decoder('gemma', ['gemma']),
  decoder('gemma2', ['gemma2']),
  decoder('gemma3', ['gemma3_text', 'gemma3']),
  decoder('olmo2', ['olmo2']),
  decoder('phi2', ['phi'], {
    ...ATTENTION,
    attn_output: 'self_attn.dense',
    ffn_up: 'mlp.fc1',
    ffn_down: 'mlp.fc2',
  }),
  decoder('phi3', ['phi3'], {
    attn_qkv: 'self_attn.qkv_proj',
    attn_output: 'self_attn.o_proj',
    ffn_up: 'mlp.gate_up_proj',
    ffn_down: 'mlp.down_proj',
  }),
  decoder('starcoder2', ['starcoder2'], {
    ...ATTENTION,
    ffn_up: 'mlp.c_fc',
    ffn_down: 'mlp.c_proj',
  }),
  {
    name: 'gpt2',
    modelTypes: ['gpt2'],
    blocks: 'transformer.h',
    modules: {
      attn_qkv: 'attn.c_attn',
      attn_output: 'attn.c_proj',
      ffn_up: 'mlp.c_fc',
      ffn_down: 'mlp.c_proj',
    },
    embedding: 'transformer.wte',
    turnsRows: false,
  },
]
