import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Dense, Prefix, Prompt, Replace, Scale } from '@graft/sdk/format/operations.ts'
import { reshaped, type TensorSource } from '@graft/sdk/format/tensor-source.ts'
import { restoreTensors } from '../restore.ts'
import type { MethodContext, MethodExport } from './export-method.ts'
import { targetNames } from './export-paths.ts'
import { scaleFields } from './export-scales.ts'

const refuse = (where: string, why: string): never => {
  throw new GraftError('ERR_METHOD_UNSUPPORTED', `${where}: ${why}`)
}

const moduleCandidates = ({ sites, pathOf }: MethodContext): string[] =>
  (sites?.modules ?? []).filter((path) => sites?.shape(`${path}.weight`)).map(pathOf)

/** IA3: a vector per module, [out, 1], or [1, in] where it multiplies the input. */
export function exportIa3(ops: readonly Scale[], context: MethodContext): MethodExport {
  const { tensors, pathOf } = context
  const out = new Map<string, TensorSource>()
  for (const op of ops) {
    const twice = ops.find((other) => other !== op && other.site === op.site)
    if (twice) refuse(`scale at ${op.site}`, 'PEFT has one ia3_l per module, this has two sides')
    const shape = op.side === 'input' ? [1, op.size] : [op.size, 1]
    out.set(`base_model.model.${pathOf(op.site)}.ia3_l`, reshaped(tensors.get(op.slots.l)!, shape))
  }
  const candidates = moduleCandidates(context)
  const names = (list: readonly Scale[]): string[] =>
    targetNames(
      list.map(({ site }) => pathOf(site)),
      candidates,
    )
  const inputs = names(ops.filter(({ side }) => side === 'input'))
  const outputs = names(ops.filter(({ side }) => side === 'output'))
  return {
    type: 'IA3',
    tensors: out,
    fields: {
      target_modules: [...new Set([...inputs, ...outputs])].sort(),
      feedforward_modules: inputs,
      fan_in_fan_out: false,
      init_ia3_weights: true,
    },
    losses: [],
    notes: [],
  }
}

const layerOf = (site: string): number => Number(/\.(\d+)\./.exec(site)?.[1] ?? -1)

/** Prefix tuning: keys and values of all layers side by side, [tokens, layers * 2 * heads * headDim]. */
export function exportPrefix(
  ops: readonly Prefix[],
  { tensors, sites }: MethodContext,
): MethodExport {
  const sorted = [...ops].sort((a, b) => layerOf(a.site) - layerOf(b.site))
  const [first] = sorted as [Prefix]
  const { virtualTokens, kvHeads, headDim } = first
  for (const [layer, op] of sorted.entries()) {
    if (layerOf(op.site) !== layer)
      refuse(`prefix at ${op.site}`, 'PEFT has one of every layer, and a layer has none here')
    if (op.virtualTokens !== virtualTokens || op.kvHeads !== kvHeads || op.headDim !== headDim)
      refuse(`prefix at ${op.site}`, 'layers differ in tokens or heads, which PEFT cannot say')
    if ((op.firstPosition ?? op.virtualTokens) !== op.virtualTokens)
      refuse(
        `prefix at ${op.site}`,
        `the first real token has position ${op.firstPosition}, in PEFT it is ${op.virtualTokens}: rotary bases would compute something else`,
      )
  }
  const beyond = sites?.modules.some((path) => layerOf(`${path}.`) >= sorted.length)
  if (beyond) refuse('prefix', `PEFT has one of every layer, and these are only ${sorted.length}`)
  const names = sorted.flatMap(({ slots }) => [slots.k, slots.v])
  const keyMap = names.map((tensor, i) => {
    return { key: 'prompt_embeddings', tensor, transform: `plane ${i},${names.length}` }
  })
  return {
    type: 'PREFIX_TUNING',
    tensors: restoreTensors({ keyMap }, tensors),
    fields: {
      num_virtual_tokens: virtualTokens,
      token_dim: kvHeads * headDim,
      num_layers: sorted.length,
      num_attention_heads: kvHeads,
      num_transformer_submodules: 1,
      encoder_hidden_size: kvHeads * headDim,
      prefix_projection: false,
    },
    losses: [],
    notes: [],
  }
}

/** Prompt tuning; what an encoder made of P-tuning's embeddings is the same thing. */
export function exportPrompt(
  ops: readonly Prompt[],
  { tensors, sites }: MethodContext,
): MethodExport {
  const [op] = ops as [Prompt]
  const blocks = new Set(sites?.modules.map((path) => layerOf(`${path}.`)).filter((n) => n >= 0))
  return {
    type: 'PROMPT_TUNING',
    tensors: new Map([['prompt_embeddings', tensors.get(op.slots.E)!]]),
    fields: {
      num_virtual_tokens: op.virtualTokens,
      token_dim: op.hidden,
      // PEFT wants both and prompt tuning uses neither.
      num_layers: Math.max(1, blocks.size),
      num_attention_heads: 1,
      num_transformer_submodules: 1,
      prompt_tuning_init: 'RANDOM',
      prompt_tuning_init_text: null,
      tokenizer_name_or_path: null,
    },
    losses: [],
    notes: [],
  }
}

/** Nothing but replaced tensors: the same rows of embeddings, or whole parameters, which LN tuning holds for any module. */
export function exportOnlyReplaced(ops: readonly Replace[], context: MethodContext): MethodExport {
  const { tensors, pathOf, sites } = context
  const out = new Map<string, TensorSource>()
  const [first] = ops
  const rows = first?.rows
  const differs = ops.find((op) => op.rows?.join() !== rows?.join())
  if (differs)
    refuse(
      `replace at ${differs.site}`,
      'without LoRA PEFT holds whole parameters, or the same rows of embeddings, not both',
    )
  const ending = (op: Replace): string =>
    rows === undefined ? `ln_tuning_layers.${op.param}` : 'trainable_tokens_delta'
  for (const op of ops)
    out.set(`base_model.model.${pathOf(op.site)}.${ending(op)}`, tensors.get(op.slots.value)!)
  const paths = [...new Set(ops.map(({ site }) => site))]
    // PEFT finds a tied head by itself.
    .filter((site) => rows === undefined || ops.length === 1 || site !== sites?.tiedHead)
    .map(pathOf)
  const targets = targetNames(paths, moduleCandidates(context))
  if (rows !== undefined) {
    const fields = { token_indices: rows, target_modules: targets, init_weights: true }
    return { type: 'TRAINABLE_TOKENS', tensors: out, fields, losses: [], notes: [] }
  }
  const fields = { target_modules: targets, modules_to_save: null }
  return { type: 'LN_TUNING', tensors: out, fields, losses: [], notes: [] }
}

/** LoHa; the other forms have shapes that only their own config explains. */
export function exportLoha(ops: readonly Dense[], context: MethodContext): MethodExport {
  const { tensors, pathOf } = context
  const out = new Map<string, TensorSource>()
  const updates = ops.map((op) => {
    if (op.form !== 'hadamard')
      return refuse(
        `dense at ${op.site}`,
        `form ${op.form} goes to PEFT only as the author's own files; export to the tool that it came from, or merge it`,
      )
    const module = `base_model.model.${pathOf(op.site)}`
    for (const [part, name] of Object.entries(op.slots))
      out.set(`${module}.hada_${part.slice(0, 2)}_${part[2]}`, tensors.get(name)!)
    return { site: op.site, path: pathOf(op.site), rank: op.rank, scale: Number(op.scale) }
  })
  const { fields, losses, notes } = scaleFields(updates)
  const { lora_alpha: alpha, use_rslora: rsLora, ...rest } = fields
  if (rsLora) refuse('dense', 'scales of alpha / sqrt(rank), which LoHa in PEFT does not have')
  const paths = updates.map(({ path }) => path)
  return {
    type: 'LOHA',
    tensors: out,
    fields: { ...rest, alpha, target_modules: targetNames(paths, moduleCandidates(context)) },
    losses,
    notes,
  }
}
