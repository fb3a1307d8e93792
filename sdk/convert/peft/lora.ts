import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import type { LiteralTensor } from '@graft/sdk/format/manifest.ts'
import type { LowRank, Magnitude } from '@graft/sdk/format/operations.ts'
import type { Collector, CompiledPart } from '../compiled.ts'
import type { ConfigReader } from '../config-keys.ts'
import type { Wrapper } from './adapted-parameter.ts'
import { compileExtras } from './extra.ts'
import { takeLiteral } from './literals.ts'
import { checkInit } from './lora-init.ts'
import {
  checkTied,
  compileEmbedding,
  compileModule,
  LORA_PARTS,
  type LoraContext,
  type LoraKeys,
} from './lora-modules.ts'
import { readLora } from './lora-settings.ts'
import { groupByModule } from './module-parts.ts'
import { compileParameters, parametersOf } from './parameters.ts'
import { checkTargets, targetCandidates } from './targets.ts'

/** A module's path without the `base_layer` of each parameter that is wrapped around it. */
function unwrap(path: string): { path: string; depth: number } {
  const plain = path.replace(/(?:\.base_layer)+$/, '')
  return { path: plain, depth: (path.length - plain.length) / '.base_layer'.length }
}

/** Modules that target_modules adapts, and the wrappers of those whose parameters target_parameters adapts. */
function divide(
  sites: BaseSites,
  modules: ReadonlyMap<string, LoraKeys>,
  targets: readonly string[],
) {
  const plain = new Map<string, LoraKeys>()
  const wrapped = new Map<string, Wrapper[]>()
  for (const [wrappedPath, keys] of modules) {
    const { path, depth } = unwrap(wrappedPath)
    if (depth === 0 && parametersOf(sites, path, targets).length === 0) plain.set(path, keys)
    else wrapped.set(path, [...(wrapped.get(path) ?? []), { depth, keys }])
  }
  return { plain, wrapped }
}

/** LoRA, rsLoRA, DoRA of linears, convolutions, embeddings and stacked experts, with what PEFT saves beside them. */
export async function compileLora(
  collector: Collector,
  keys: ReadonlyMap<string, string>,
  config: ConfigReader,
  sites: BaseSites,
  modelType: string,
): Promise<CompiledPart & { literals: LiteralTensor[] }> {
  checkInit(config)
  const settings = readLora(config)
  const context: LoraContext = { collector, sites, settings }
  const parameters = config.names('target_parameters') ?? []
  const { modules, rest } = groupByModule(keys, LORA_PARTS)
  const { plain, wrapped } = divide(sites, modules, parameters)
  const operations: (LowRank | Magnitude)[] = []
  const isEmbedding = (parts: LoraKeys) =>
    parts.embeddingA !== undefined || parts.embeddingB !== undefined
  const head = sites.tiedHead === null ? undefined : plain.get(sites.tiedHead)
  const tying = config.boolean('ensure_weight_tying', false) && head !== undefined
  for (const [path, parts] of plain) {
    if (tying && isEmbedding(parts)) await checkTied(context, parts, head)
    operations.push((isEmbedding(parts) ? compileEmbedding : compileModule)(context, path, parts))
  }
  operations.push(...compileParameters(context, wrapped, parameters, modelType))
  const adapted = new Set(plain.keys())
  // PEFT writes the embedding's name for both of a tied pair.
  if (tying) adapted.delete(sites.tiedHead!)
  checkTargets(config, adapted, targetCandidates(sites, modules.keys(), 'embeddings'))
  const extras = compileExtras(collector, sites, config, rest, settings.bias)
  const literals: LiteralTensor[] = []
  // VeLoRA (arXiv 2405.17991) saves what it compresses activations by, in training alone.
  if (config.value('velora_config') !== null)
    for (const [inner, key] of rest)
      if (inner.endsWith('.lora_velora_embed')) literals.push(await takeLiteral(collector, key))
  const { r, alpha, rsLora, dora, loraBias } = settings
  return {
    family: dora ? 'dora' : 'lora',
    flags: [
      ...(rsLora ? ['rslora'] : []),
      ...(loraBias ? ['lora_bias'] : []),
      ...(wrapped.size > 0 ? ['parameters'] : []),
      ...extras.flags,
    ],
    operations: [...operations, ...extras.operations],
    training: { r, lora_alpha: alpha, lora_dropout: config.number('lora_dropout', 0) },
    literals,
  }
}
