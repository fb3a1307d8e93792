import { createBaseSites } from '@graft/sdk/format/base-sites.ts'
import { encodeBase64 } from '@graft/sdk/format/base64url.ts'
import { readAll } from '@graft/sdk/format/byte-source.ts'
import { isDecimal, toDecimal } from '@graft/sdk/format/decimal.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { Activation, Bottleneck } from '@graft/sdk/format/operations.ts'
import { openSafetensors } from '@graft/sdk/format/safetensors-source.ts'
import { type Collector, type Compiled, createCollector } from '../compiled.ts'
import {
  type ConfigReader,
  checkKeys,
  inertKeys,
  type KeyTable,
  readConfig,
} from '../config-keys.ts'
import { listBlocks } from '../layers.ts'
import type { Detected, ImportBase, SourceFiles } from '../source-format.ts'

const TOP_KEYS: KeyTable = {
  config: 'read',
  hidden_size: 'read',
  model_type: 'read',
  name: 'read',
  version: 'read',
  model_class: 'inert',
  model_name: 'inert',
  config_id: 'inert',
}

const phm = { unset: 'Compacter layers are not supported; train with phm_layer=False' } as const

const BN_KEYS: KeyTable = {
  architecture: 'read',
  mh_adapter: 'read',
  output_adapter: 'read',
  reduction_factor: 'read',
  non_linearity: 'read',
  original_ln_before: 'read',
  original_ln_after: 'read',
  ln_before: 'read',
  ln_after: 'read',
  is_parallel: 'read',
  scaling: 'read',
  residual_before_ln: 'read',
  adapter_residual_before_ln: 'read',
  leave_out: 'read',
  use_gating: 'read',
  inv_adapter: { unset: 'Invertible adapters are not supported; train with inv_adapter=None' },
  cross_adapter: { unset: 'A decoder has no cross attention; train with cross_adapter=False' },
  phm_layer: phm,
  // Settings of parts refused above, of initialisation and of training.
  inv_adapter_reduction_factor: 'inert',
  init_weights: 'inert',
  init_weights_seed: 'inert',
  dropout: 'inert',
  stochastic_depth: 'inert',
  phm_dim: 'inert',
  phm_rank: 'inert',
  phm_bias: 'inert',
  phm_c_init: 'inert',
  phm_init_range: 'inert',
  learn_phm: 'inert',
  factorized_phm_W: 'inert',
  factorized_phm_rule: 'inert',
  shared_W_phm: 'inert',
  shared_phm_rule: 'inert',
  hypercomplex_nonlinearity: 'inert',
}

/** Names of the tool's activations, lower case, and ours. `gelu` is exact there since configs carry a version. */
const ACTIVATIONS: Record<string, Activation> = {
  relu: 'relu',
  gelu: 'gelu',
  gelu_new: 'gelu_new',
  gelu_pytorch_tanh: 'gelu_new',
  silu: 'silu',
  swish: 'silu',
  tanh: 'tanh',
  sigmoid: 'sigmoid',
  leakyrelu: 'leaky_relu',
  linear: 'linear',
}
/** Configs older than versions meant the approximation by `gelu`. */
const OLD_NAMES: Record<string, string> = { gelu: 'gelu_new', gelu_orig: 'gelu' }

/** Families whose blocks call their adapters without a LayerNorm, under these names. */
const MODEL_TYPES = new Set(['llama', 'mistral'])

const PLACES = [
  { flag: 'mh_adapter', module: 'attention_adapters', place: 'attention' },
  { flag: 'output_adapter', module: 'output_adapters', place: 'ffn' },
] as const

interface Settings {
  name: string
  activation: Activation
  parallel: boolean
  gated: boolean
  lnBefore: boolean
  lnAfter: boolean
  scaling: string
  residual: Bottleneck['residual']
  originalLnBefore: boolean
  originalLnAfter: boolean
  adapterResidualBeforeLn: boolean
}

function readScaling(config: ConfigReader): string {
  const value = config.value('scaling') ?? 1
  if (value === 'learned' || value === 'channel') return value
  const decimal = typeof value === 'number' ? toDecimal(value) : ''
  return isDecimal(decimal) ? decimal : config.fail('scaling', 'a number, "learned" or "channel"')
}

function readSettings(name: string, config: ConfigReader, versioned: boolean): Settings {
  const written = config.text('non_linearity')
  const current = versioned ? written : (OLD_NAMES[written] ?? written)
  const lower = current.toLowerCase()
  if (!Object.hasOwn(ACTIVATIONS, lower))
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      expected('non_linearity', `one of ${Object.keys(ACTIVATIONS).join(', ')}`, written),
    )
  if (config.value('residual_before_ln') === 'post_add')
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      'residual_before_ln "post_add" needs a LayerNorm after the sub-layer, which this base has not; the tool itself fails there',
    )
  return {
    name,
    activation: ACTIVATIONS[lower]!,
    parallel: config.boolean('is_parallel', false),
    gated: config.boolean('use_gating', false),
    lnBefore: config.boolean('ln_before', false),
    lnAfter: config.boolean('ln_after', false),
    scaling: readScaling(config),
    residual: config.boolean('residual_before_ln', true) ? 'before_ln' : 'after_ln',
    originalLnBefore: config.boolean('original_ln_before', false),
    originalLnAfter: config.boolean('original_ln_after', true),
    adapterResidualBeforeLn: config.boolean('adapter_residual_before_ln', false),
  }
}

/** Python's `int(hidden // factor)`, at least 1. */
const reducedSize = (hidden: number, factor: number): number =>
  Math.max(1, Math.round((hidden - (hidden % factor)) / factor))

/** Bottleneck width per layer; a mapping names layers as texts and may hold "default". */
function readReduction(config: ConfigReader, hidden: number): (layer: number) => number {
  const value = config.value('reduction_factor')
  const width = (factor: unknown): number =>
    typeof factor === 'number' && factor > 0
      ? reducedSize(hidden, factor)
      : config.fail('reduction_factor', 'a number above 0 for every layer')
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return () => width(value)
  return (layer) => width(value[String(layer)] ?? value['default'])
}

async function compileBlock(
  collector: Collector,
  prefix: string,
  site: string,
  place: 'attention' | 'ffn',
  s: Settings,
  hidden: number,
  reduced: number,
): Promise<Bottleneck> {
  const slot = (part: string) => `bn.${place}.${part}`
  const take = (key: string, part: string, shape: number[]): string => {
    const full = `${prefix}.${key}`
    const got = collector.peek(full)?.shape
    if (got !== undefined && got.join() !== shape.join())
      throw new GraftError(
        'ERR_TENSOR_SHAPE',
        expected(`tensor ${full}`, `[${shape}] as the config says`, got),
      )
    return collector.take(full, site, slot(part))
  }
  // With a norm in front, the Linear is the second part of adapter_down.
  const down = s.lnBefore ? 'adapter_down.1' : 'adapter_down.0'
  const slots: Bottleneck['slots'] = {
    downW: take(`${down}.weight`, 'down.w', [reduced, hidden]),
    downB: take(`${down}.bias`, 'down.b', [reduced]),
    upW: take('adapter_up.weight', 'up.w', [hidden, reduced]),
    upB: take('adapter_up.bias', 'up.b', [hidden]),
  }
  if (s.lnBefore) {
    slots.lnBeforeW = take('adapter_down.0.weight', 'ln_before.w', [hidden])
    slots.lnBeforeB = take('adapter_down.0.bias', 'ln_before.b', [hidden])
    // The tool registers this norm twice and a converted file may hold it twice.
    for (const [param, name] of [
      ['weight', slots.lnBeforeW],
      ['bias', slots.lnBeforeB],
    ] as const)
      await collector.takeCopy(`${prefix}.adapter_norm_before.${param}`, name)
  }
  if (s.lnAfter) {
    slots.lnAfterW = take('adapter_norm_after.weight', 'ln_after.w', [hidden])
    slots.lnAfterB = take('adapter_norm_after.bias', 'ln_after.b', [hidden])
  }
  if (s.gated) {
    slots.gateW = take('gate.weight', 'gate.w', [1, hidden])
    slots.gateB = take('gate.bias', 'gate.b', [1])
  }
  if (s.scaling === 'learned') slots.scaling = take('scaling', 'scale', [1])
  if (s.scaling === 'channel') slots.scaling = take('scaling', 'scale', [hidden])
  return {
    op: 'bottleneck',
    site,
    placement: s.parallel ? `parallel_${place}` : place,
    hidden,
    reduced,
    activation: s.activation,
    originalLnBefore: s.originalLnBefore,
    originalLnAfter: s.originalLnAfter,
    residual: s.residual,
    adapterResidualBeforeLn: s.adapterResidualBeforeLn,
    scaling: s.scaling,
    slots,
  }
}

/** AdapterHub's bottleneck adapters. @throws as importPeft does, and ERR_ARCHITECTURE_UNSUPPORTED */
export async function importBottleneck(
  detected: Detected,
  files: SourceFiles,
  base: ImportBase,
): Promise<Compiled> {
  const { config } = detected
  const configPath = detected.configPath!
  const { modelType } = base.identity
  const sites = createBaseSites(base.tensors, modelType)
  checkKeys(config, TOP_KEYS, configPath)
  const top = readConfig(config, configPath)
  const inner = top.value('config')
  if (typeof inner !== 'object' || inner === null || Array.isArray(inner))
    return top.fail('config', "the adapter's whole configuration, as adapters 1.x writes it")
  const architecture = inner['architecture'] ?? null
  if (architecture !== null)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `${configPath}: config.architecture ${JSON.stringify(architecture)} is not supported from AdapterHub; bottleneck adapters are. Train LoRA and prefix tuning with PEFT`,
    )
  checkKeys(inner, BN_KEYS, `${configPath}: config`)
  const saved = top.text('model_type')
  if (!MODEL_TYPES.has(modelType) || saved !== modelType)
    throw new GraftError(
      MODEL_TYPES.has(modelType) ? 'ERR_BASE_MISMATCH' : 'ERR_ARCHITECTURE_UNSUPPORTED',
      `bottleneck adapters are supported on ${[...MODEL_TYPES].join(' and ')}; the adapter is of ${saved}, the base of ${modelType}`,
    )
  const reader = readConfig(inner, `${configPath}: config`)
  const version = top.value('version')
  const settings = readSettings(top.text('name'), reader, version !== null)
  const hidden = top.integer('hidden_size', 1)
  const reduction = readReduction(reader, hidden)
  const leaveOut = reader.value('leave_out') ?? []
  if (!Array.isArray(leaveOut)) return reader.fail('leave_out', 'a list of layers')
  const { tensors, metadata } = await openSafetensors(files.get(detected.weightsPath)!)
  const collector = createCollector(tensors)
  const operations: Bottleneck[] = []
  for (const [layer, { block }] of listBlocks(sites).entries()) {
    if (leaveOut.includes(layer)) continue
    for (const { flag, module, place } of PLACES) {
      if (!reader.boolean(flag, false)) continue
      const prefix = `${block}.${module}.adapters.${settings.name}`
      operations.push(
        await compileBlock(collector, prefix, block, place, settings, hidden, reduction(layer)),
      )
    }
  }
  const [norm] = sites.shape(`${listBlocks(sites)[0]!.block}.input_layernorm.weight`) ?? []
  if (norm !== undefined && norm !== hidden)
    throw new GraftError(
      'ERR_TENSOR_SHAPE',
      expected('hidden_size', `${norm} as in the base`, hidden),
    )
  collector.assertAllTaken(
    `Keys must be "<block>.attention_adapters|output_adapters.adapters.${settings.name}..." of the layers that the config adapts`,
  )
  return {
    family: 'bottleneck',
    flags: [...(settings.parallel ? ['parallel'] : []), ...(settings.gated ? ['gated'] : [])],
    operations,
    tensors: collector.tensors,
    origin: {
      toolVersion: typeof version === 'string' ? version.replace(/^adapters\./, '') : null,
      config: encodeBase64(await readAll(files.get(configPath)!)),
      keyMap: collector.keyMap,
      metadata,
    },
    inert: [...inertKeys(config, TOP_KEYS), ...inertKeys(inner, BN_KEYS)],
    training: { reduction_factor: inner['reduction_factor'], dropout: inner['dropout'] ?? 0 },
  }
}
