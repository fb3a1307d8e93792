import { createBaseSites } from '@graft/sdk/format/base-sites.ts'
import { heldBytes } from '@graft/sdk/format/byte-source.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Operation, OperationKind } from '@graft/sdk/format/operations.ts'
import { safetensorsSource } from '@graft/sdk/format/safetensors-source.ts'
import type { ExportContext, Exported, OpenAdapter } from '../exporter.ts'
import { configBytes } from './export-config.ts'
import { exportLora } from './export-lora.ts'
import type { MethodContext, MethodExport } from './export-method.ts'
import {
  exportIa3,
  exportLoha,
  exportOnlyReplaced,
  exportPrefix,
  exportPrompt,
} from './export-others.ts'
import { peftPaths } from './export-paths.ts'
import { exportReplaced } from './export-replaced.ts'

type Of<K extends OperationKind> = Extract<Operation, { op: K }>

/** @throws ERR_METHOD_UNSUPPORTED naming what PEFT has no type for */
async function exportMethod(
  operations: readonly Operation[],
  context: MethodContext,
): Promise<MethodExport> {
  const of = <K extends OperationKind>(...kinds: K[]) =>
    operations.filter((op): op is Of<K> => (kinds as string[]).includes(op.op))
  const bottlenecks = of('bottleneck')
  if (bottlenecks[0])
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `bottleneck at ${bottlenecks[0].site}: PEFT has no adapter modules; convert --to adapters`,
    )
  const own = operations.filter(({ op }) => op !== 'replace')
  const kinds = [...new Set(own.map(({ op }) => (op === 'magnitude' ? 'low_rank' : op)))]
  if (kinds.length > 1)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `a PEFT adapter is of one method, this one has ${kinds.join(' and ')}; publish them apart and call their sum`,
    )
  switch (kinds[0]) {
    case undefined:
      return exportOnlyReplaced(of('replace'), context)
    case 'scale':
      return exportIa3(of('scale'), context)
    case 'prefix':
      return exportPrefix(of('prefix'), context)
    case 'prompt':
      return exportPrompt(of('prompt'), context)
    case 'dense':
      return exportLoha(of('dense'), context)
    default:
      return exportLora(of('low_rank', 'magnitude'), context)
  }
}

/** Types whose saved modules have a shorter prefix, and those that keep replaced tensors in keys of their own. */
const PROMPTS = new Set(['PREFIX_TUNING', 'PROMPT_TUNING'])
const OWN_KEYS = new Set(['LN_TUNING', 'TRAINABLE_TOKENS'])

/** A PEFT folder of any adapter whose operations one PEFT type can hold. @throws ERR_METHOD_UNSUPPORTED */
export async function exportPeft(
  { manifest, tensors }: OpenAdapter,
  { base }: ExportContext,
  names: { config: string; weights: string },
): Promise<Exported> {
  const { operations } = manifest
  const sites = base ? createBaseSites(base.tensors, manifest.base.modelType) : null
  const pathOf = peftPaths(manifest)
  const method = await exportMethod(operations, { tensors, pathOf, sites })
  const replaced = OWN_KEYS.has(method.type)
    ? { tensors: new Map(), fields: {} }
    : exportReplaced(
        operations.filter((op): op is Of<'replace'> => op.op === 'replace'),
        {
          ...{ tensors, pathOf, sites },
          adapted: new Set(operations.filter(({ op }) => op !== 'replace').map(({ site }) => site)),
          prefix: PROMPTS.has(method.type) ? 'base_model.' : 'base_model.model.',
        },
      )
  const extra = replaced.fields as { bias?: string; trainable_token_indices?: unknown }
  if (method.type !== 'LORA' && (extra.bias ?? extra.trainable_token_indices) !== undefined)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `replace beside ${method.type}: only PEFT's LORA keeps biases and token rows; merge them into the base`,
    )
  const config = configBytes(method.type, manifest.base, { ...method.fields, ...replaced.fields })
  const all = new Map([...method.tensors, ...replaced.tensors])
  return {
    files: new Map([
      [names.config, heldBytes(config)],
      [names.weights, safetensorsSource(all, { format: 'pt' })],
    ]),
    losses: method.losses,
    notes: method.notes,
  }
}
