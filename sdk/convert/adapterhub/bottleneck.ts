import { isDecimal, toDecimal } from '@graft/sdk/format/decimal.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { Activation, Bottleneck } from '@graft/sdk/format/operations.ts'
import type { CompiledPart } from '../compiled.ts'
import type { ConfigReader } from '../config-keys.ts'
import { expectShape } from './shapes.ts'
import { adaptedLayers, type Work } from './work.ts'

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

const PLACES = [
  ['mh_adapter', 'attention'],
  ['output_adapter', 'ffn'],
] as const

interface Settings {
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

function readSettings({ family }: Work, config: ConfigReader, versioned: boolean): Settings {
  const written = config.text('non_linearity')
  const current = versioned ? written : (OLD_NAMES[written] ?? written)
  const lower = current.toLowerCase()
  if (!Object.hasOwn(ACTIVATIONS, lower))
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      expected('non_linearity', `one of ${Object.keys(ACTIVATIONS).join(', ')}`, written),
    )
  const residual = config.value('residual_before_ln')
  if (residual === 'post_add' && !family.postNorm)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      'residual_before_ln "post_add" needs a LayerNorm after the sub-layer, which this base has not; the tool itself fails there',
    )
  const originalLnAfter = config.boolean('original_ln_after', true)
  if (family.hooked && !originalLnAfter)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      'original_ln_after must be true in this family of models, where the block itself adds its residual stream; the tool refuses it too',
    )
  return {
    activation: ACTIVATIONS[lower]!,
    parallel: config.boolean('is_parallel', false),
    gated: config.boolean('use_gating', false),
    lnBefore: config.boolean('ln_before', false),
    lnAfter: config.boolean('ln_after', false),
    scaling: readScaling(config),
    residual:
      residual === 'post_add'
        ? residual
        : config.boolean('residual_before_ln', true)
          ? 'before_ln'
          : 'after_ln',
    originalLnBefore: config.boolean('original_ln_before', false),
    originalLnAfter,
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
  work: Work,
  layer: number,
  place: 'attention' | 'ffn',
  s: Settings,
  reduced: number,
): Promise<Bottleneck> {
  const { collector, family, hidden, name, blocks } = work
  const site = blocks[layer]!
  const keyOf = (part: string) =>
    work.keyIn(layer, `${family.bottleneck?.[place]}.adapters.${name}.${part}`)
  const take = (part: string, slot: string, shape: number[]): string => {
    const key = keyOf(part)
    expectShape(work, key, shape)
    return collector.take(key, site, `bn.${place}.${slot}`)
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
    for (const [param, tensor] of [
      ['weight', slots.lnBeforeW],
      ['bias', slots.lnBeforeB],
    ] as const)
      await collector.takeCopy(keyOf(`adapter_norm_before.${param}`), tensor)
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
  const { activation, originalLnBefore, originalLnAfter, residual, adapterResidualBeforeLn } = s
  return {
    op: 'bottleneck',
    site,
    placement: s.parallel ? `parallel_${place}` : place,
    hidden,
    reduced,
    activation,
    originalLnBefore,
    originalLnAfter,
    residual,
    adapterResidualBeforeLn,
    scaling: s.scaling,
    slots,
  }
}

/** Bottleneck adapters of every kind. @param versioned the config carries a version */
export async function compileBottleneck(
  work: Work,
  config: ConfigReader,
  versioned: boolean,
): Promise<CompiledPart> {
  if (work.family.bottleneck === null)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      "a bottleneck cannot be read in this family of models: the block's own norm stands after its sub-layers, inside the residual stream. Train LoRA",
    )
  const settings = readSettings(work, config, versioned)
  const reduction = readReduction(config, work.hidden)
  const operations: Bottleneck[] = []
  for (const layer of adaptedLayers(work, config))
    for (const [flag, place] of PLACES)
      if (config.boolean(flag, false))
        operations.push(await compileBlock(work, layer, place, settings, reduction(layer)))
  const { parallel, gated } = settings
  return {
    family: 'bottleneck',
    flags: [...(parallel ? ['parallel'] : []), ...(gated ? ['gated'] : [])],
    operations,
    training: {
      reduction_factor: config.value('reduction_factor'),
      dropout: config.value('dropout') ?? 0,
    },
  }
}
