import { isDecimal, toDecimal } from '@graft/sdk/format/decimal.ts'
import type { ConfigReader } from '../config-keys.ts'
import { byPattern } from './patterns.ts'

export type BiasKind = 'none' | 'all' | 'lora_only'

/** What a LoRA config says about every module. */
export interface LoraSettings {
  r: number
  alpha: number
  rsLora: boolean
  dora: boolean
  loraBias: boolean
  bias: BiasKind
  /** By a module's path, or a parameter's. */
  rankOf: (path: string) => number
  /** alpha / r, or alpha / sqrt(r) (rsLoRA, arXiv 2312.03732), as a decimal. */
  scaleOf: (path: string, rank: number) => string
}

/** `none`, `all` or PEFT's name for "those of adapted modules". @throws ERR_CONFIG_INVALID */
export function readBias(config: ConfigReader, only: 'lora_only' | 'vera_only'): BiasKind {
  const bias = config.text('bias', 'none')
  if (bias === 'none' || bias === 'all') return bias
  return bias === only ? 'lora_only' : config.fail('bias', `"none", "all" or "${only}"`)
}

/** @throws ERR_CONFIG_INVALID when the number has no decimal of a usual length */
export function scaleText(config: ConfigReader, value: number): string {
  const scale = Number.isFinite(value) ? toDecimal(value) : ''
  return isDecimal(scale) ? scale : config.fail('lora_alpha', 'of a usual magnitude')
}

/** @throws ERR_CONFIG_INVALID, ERR_METHOD_UNSUPPORTED for patterns that Python reads otherwise */
export function readLora(config: ConfigReader): LoraSettings {
  const r = config.integer('r', 1, 8)
  const alpha = config.number('lora_alpha', 8)
  const rsLora = config.boolean('use_rslora', false)
  const alphaOf = byPattern(config, 'alpha_pattern', alpha)
  return {
    r,
    alpha,
    rsLora,
    dora: config.boolean('use_dora', false),
    loraBias: config.boolean('lora_bias', false),
    bias: readBias(config, 'lora_only'),
    rankOf: byPattern(config, 'rank_pattern', r),
    scaleOf: (path, rank) => scaleText(config, alphaOf(path) / (rsLora ? Math.sqrt(rank) : rank)),
  }
}
