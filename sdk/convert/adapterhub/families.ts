/** Where AdapterHub hooks into a family of models. Paths are inside a block. */
export interface Family {
  /** What the list of blocks is called, and what may stand before it, by the class that saved the base. */
  blocks: string
  prefixes: readonly string[]
  attention: string
  /** Projections by the letters of `attn_matrices`, or the one layer that holds all three side by side. */
  projections: { q: string; k: string; v: string } | { qkv: string }
  /** What `intermediate_lora` and `output_lora` mean. */
  intermediate: string | null
  output: string | null
  /** Null where the block's own norm stands between the adapter and the residual stream. */
  bottleneck: { attention: string; ffn: string } | null
  /** The block's own LayerNorm stands after the sum of sub-layer and residual stream. */
  postNorm: boolean
  /** Bottlenecks are hooked from outside: the block adds its residual stream by itself, whatever the config says. */
  hooked: boolean
  /** Prefix tuning has a place there. */
  prefix: boolean
  /** Linears are Conv1D there, which DoRA takes its norms of along the wrong axis. */
  conv1d: boolean
}

const LLAMA: Family = {
  blocks: 'layers',
  prefixes: ['model.', ''],
  attention: 'self_attn',
  projections: { q: 'self_attn.q_proj', k: 'self_attn.k_proj', v: 'self_attn.v_proj' },
  // Not a slip: the library's own classes of these families have the two the other way round.
  intermediate: 'mlp.down_proj',
  output: 'mlp.up_proj',
  bottleneck: { attention: 'attention_adapters', ffn: 'output_adapters' },
  postNorm: false,
  hooked: false,
  prefix: true,
  conv1d: false,
}

/** Families that the library adapts through an interface, by the names of their modules. */
const HOOKED: Family = {
  ...LLAMA,
  intermediate: 'mlp.up_proj',
  output: 'mlp.down_proj',
  hooked: true,
  prefix: false,
}

const GPT2: Family = {
  blocks: 'h',
  prefixes: ['transformer.', ''],
  attention: 'attn',
  projections: { qkv: 'attn.c_attn' },
  intermediate: 'mlp.c_fc',
  output: 'mlp.c_proj',
  bottleneck: { attention: 'attention_adapters', ffn: 'output_adapters' },
  postNorm: false,
  hooked: false,
  prefix: true,
  conv1d: true,
}

const BERT: Family = {
  blocks: 'encoder.layer',
  prefixes: ['bert.', 'roberta.', ''],
  attention: 'attention.self',
  projections: {
    q: 'attention.self.query',
    k: 'attention.self.key',
    v: 'attention.self.value',
  },
  intermediate: 'intermediate.dense',
  output: 'output.dense',
  bottleneck: { attention: 'attention.output', ffn: 'output' },
  postNorm: true,
  hooked: false,
  prefix: true,
  conv1d: false,
}

/** By model_type. */
export const FAMILIES: Readonly<Record<string, Family>> = {
  llama: LLAMA,
  mistral: LLAMA,
  qwen2: HOOKED,
  qwen3: HOOKED,
  gpt2: GPT2,
  bert: BERT,
  roberta: BERT,
  'xlm-roberta': BERT,
}
