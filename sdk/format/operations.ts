import type { DenseForm } from './dense/forms.ts'

/**
 * Every PEFT method compiles to a list of these; a runner knows operations, never methods.
 * W is [out, in] in torch orientation, x a row of the site's input. Slots name tensors of adapter.safetensors.
 * Numbers that enter the maths are decimal strings, so that a reader never re-derives or re-rounds them.
 */

/**
 * y = Wx + b + scale * (D * (B (E * (A x))) + Bbias). A [rank, in], B [out, rank], Bbias [out]; E [rank] and D [out]
 * are vectors of factors, all 1 where absent (AdaLoRA's E, arXiv 2303.10512; VeRA's lambdas, arXiv 2310.11454).
 */
export interface LowRank {
  op: 'low_rank'
  /** Module path in the base, as in its safetensors: `model.layers.0.self_attn.q_proj`. An embedding is a linear of one-hot rows. */
  site: string
  in: number
  out: number
  rank: number
  scale: string
  /** The site is a stack of this many matrices: A [experts, rank, in], B [experts, out, rank]. */
  experts?: number
  /** The site is a convolution of this kernel: A [rank, in, ...kernel], B [out, rank, 1, ...]. */
  kernel?: number[]
  slots: { A: string; B: string; Bbias?: string; E?: string; D?: string }
}

/** DoRA (arXiv 2402.09353): y = g * (Wx + scale * BAx) + b, g = m / row norm of (W + scale * BA). m [out]. */
export interface Magnitude {
  op: 'magnitude'
  site: string
  in: number
  out: number
  rank: number
  scale: string
  slots: { A: string; B: string; m: string }
}

/** IA3 (arXiv 2205.05638): side output: y = l * (Wx + b); side input: y = W (l * x) + b. l [size]. */
export interface Scale {
  op: 'scale'
  site: string
  side: 'input' | 'output'
  size: number
  slots: { l: string }
}

export type Activation =
  | 'relu'
  | 'gelu'
  | 'gelu_new'
  | 'silu'
  | 'tanh'
  | 'sigmoid'
  | 'leaky_relu'
  | 'linear'

/**
 * AdapterHub's bottleneck, all of BnConfig that reaches inference. u = (U act(D h + d) + u) * scaling.
 * D [reduced, hidden], U [hidden, reduced].
 * `attention`/`ffn`: sequential, after the sub-layer; `parallel_ffn`: reads the sub-layer's input.
 */
export interface Bottleneck {
  op: 'bottleneck'
  /** Block path: `model.layers.0`. */
  site: string
  placement: 'attention' | 'ffn' | 'parallel_attention' | 'parallel_ffn'
  hidden: number
  reduced: number
  activation: Activation
  /** Where the block's own LayerNorm and residual stand relative to the adapter (AdapterHub's names). */
  originalLnBefore: boolean
  originalLnAfter: boolean
  residual: 'before_ln' | 'after_ln' | 'post_add'
  adapterResidualBeforeLn: boolean
  scaling: string | 'learned' | 'channel'
  slots: {
    downW: string
    downB?: string
    upW: string
    upB?: string
    lnBeforeW?: string
    lnBeforeB?: string
    lnAfterW?: string
    lnAfterB?: string
    gateW?: string
    gateB?: string
    /** [1] when learned, [hidden] per channel. */
    scaling?: string
  }
}

/** Prefix tuning: keys and values before position 0, already projected, not rotated. k, v [kvHeads, virtualTokens, headDim]. */
export interface Prefix {
  op: 'prefix'
  /** Attention path: `model.layers.0.self_attn`. */
  site: string
  kvHeads: number
  headDim: number
  virtualTokens: number
  /**
   * Position of the first real token, virtualTokens where absent: PEFT counts the prefix, AdapterHub does not (0).
   * Keys are not rotated, so where positions are rotary it is a fact of the maths.
   */
  firstPosition?: number
  slots: { k: string; v: string }
}

/** Prompt and P-tuning: embeddings before position 0. E [virtualTokens, hidden]. */
export interface Prompt {
  op: 'prompt'
  /** Embedding path: `model.embed_tokens`. */
  site: string
  virtualTokens: number
  hidden: number
  slots: { E: string }
}

/** Another tensor instead of the base's. With `rows`, only those rows (trainable tokens). */
export interface Replace {
  op: 'replace'
  /** Module path: `lm_head`, `model.norm`. */
  site: string
  param: 'weight' | 'bias'
  shape: number[]
  rows?: number[]
  slots: { value: string }
}

/**
 * y += dW x, dW [out, in] in one of several forms, each as its author's tensors say it (dense/forms.ts). Where a form has
 * exact factors of a small rank a runtime may run those as `low_rank` (dense/as-low-rank.ts); the others are merged: dW is
 * added to the base's weights, which `rotation` and `butterfly` also need to say what dW is.
 */
export type Dense = { op: 'dense'; site: string; in: number; out: number } & DenseForm

export type Operation = LowRank | Magnitude | Scale | Bottleneck | Prefix | Prompt | Replace | Dense
export type OperationKind = Operation['op']

/** All facts about a kind that code outside its kernel needs; for the kind that an operation is run as, ask kindToRun. */
export const OPERATIONS = {
  low_rank: { composable: true, batched: true },
  magnitude: { composable: true, batched: true },
  scale: { composable: true, batched: true },
  bottleneck: { composable: false, batched: true },
  prefix: { composable: false, batched: true },
  prompt: { composable: false, batched: true },
  replace: { composable: false, batched: true },
  dense: { composable: false, batched: false },
} as const satisfies Record<OperationKind, { composable: boolean; batched: boolean }>
