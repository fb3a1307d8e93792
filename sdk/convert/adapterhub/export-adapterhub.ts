import { createBaseSites } from '@graft/sdk/format/base-sites.ts'
import { heldBytes } from '@graft/sdk/format/byte-source.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type {
  Bottleneck,
  LowRank,
  Magnitude,
  Operation,
  Prefix,
  Scale,
} from '@graft/sdk/format/operations.ts'
import { safetensorsSource } from '@graft/sdk/format/safetensors-source.ts'
import type { ExportContext, Exported, OpenAdapter } from '../exporter.ts'
import { unfit } from '../way-out.ts'
import { exportBottleneck } from './export-bottleneck.ts'
import { exportIa3, exportLora } from './export-lora.ts'
import type { ExportPart, ExportWork } from './export-parts.ts'
import { exportPrefix } from './export-prefix.ts'
import { FAMILIES } from './families.ts'
import { ADAPTERHUB_FILES } from './files.ts'
import { findBlocks } from './work.ts'

/** The release whose files these are. */
const VERSION = 'adapters.1.3.0'

const isUpdate = (op: Operation): op is LowRank | Magnitude =>
  op.op === 'low_rank' || op.op === 'magnitude'

async function partsOf(work: ExportWork, operations: readonly Operation[]): Promise<ExportPart[]> {
  const updates = operations.filter(isUpdate)
  const scales = operations.filter((op): op is Scale => op.op === 'scale')
  const prefixes = operations.filter((op): op is Prefix => op.op === 'prefix')
  const bottlenecks = operations.filter((op): op is Bottleneck => op.op === 'bottleneck')
  for (const op of operations)
    if (!isUpdate(op) && op.op !== 'scale' && op.op !== 'prefix' && op.op !== 'bottleneck')
      unfit(op, 'AdapterHub holds LoRA, IA3, prefixes and bottlenecks')
  if (updates.length > 0 && scales.length > 0)
    unfit(scales[0]!, 'AdapterHub has one configuration of LoRA, which adds or scales')
  return [
    ...(prefixes.length > 0 ? [exportPrefix(work, prefixes)] : []),
    ...(bottlenecks.length > 0 ? [exportBottleneck(work, bottlenecks)] : []),
    ...(updates.length > 0 ? [await exportLora(work, updates)] : []),
    ...(scales.length > 0 ? [exportIa3(work, scales)] : []),
  ]
}

const sortKeys = (value: unknown): unknown =>
  typeof value !== 'object' || value === null || Array.isArray(value)
    ? Array.isArray(value)
      ? value.map(sortKeys)
      : value
    : Object.fromEntries(
        Object.entries(value)
          .toSorted(([a], [b]) => (a < b ? -1 : 1))
          .map(([key, inner]) => [key, sortKeys(inner)]),
      )

/**
 * An adapter as AdapterHub's `adapters` reads it. One rank and one alpha for all: smaller ranks are padded with zeros,
 * other scales folded into B, which is exact for powers of two and else in the losses.
 * @throws ERR_METHOD_UNSUPPORTED, ERR_ARCHITECTURE_UNSUPPORTED, ERR_REQUEST_INVALID without the base
 */
export async function exportAdapterHub(
  { manifest, tensors }: OpenAdapter,
  { base }: ExportContext,
): Promise<Exported> {
  const { modelType } = manifest.base
  const family = Object.hasOwn(FAMILIES, modelType) ? FAMILIES[modelType] : undefined
  if (family === undefined)
    throw new GraftError(
      'ERR_ARCHITECTURE_UNSUPPORTED',
      `adapters of AdapterHub are written for ${Object.keys(FAMILIES).join(', ')}; the base is of ${modelType}`,
    )
  if (base === undefined)
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      'AdapterHub names modules for all layers at once, so its export needs the base at hand',
    )
  const sites = createBaseSites(base.tensors, modelType)
  const blocks = findBlocks(sites, family)
  // A name becomes part of module names, which hold no dots.
  const name = manifest.name
    .split('/')
    .at(-1)!
    .replaceAll(/[^A-Za-z0-9_]/g, '_')
  const work: ExportWork = { tensors, family, blocks, sites, name }
  const parts = await partsOf(work, manifest.operations)
  const { projections } = family
  const first = 'qkv' in projections ? projections.qkv : projections.q
  const config = {
    config:
      parts.length === 1
        ? parts[0]!.config
        : { architecture: 'union', configs: parts.map((part) => part.config) },
    hidden_size: sites.linear(`${blocks[0]}.${first}`)?.in ?? null,
    model_class: manifest.base.architecture,
    model_name: manifest.base.name,
    model_type: modelType,
    name,
    version: VERSION,
  }
  // The library asks for a float, and Python reads a number without a point as another type.
  const text = JSON.stringify(sortKeys(config), null, 2).replaceAll(
    /("scaling": -?\d+)(?=[,\n])/g,
    '$1.0',
  )
  const all = new Map(parts.flatMap((part) => [...part.tensors]))
  return {
    files: new Map([
      [ADAPTERHUB_FILES.config, heldBytes(new TextEncoder().encode(text))],
      [ADAPTERHUB_FILES.weights, safetensorsSource(all)],
    ]),
    losses: parts.flatMap(({ losses }) => losses),
    notes: parts.flatMap(({ notes }) => notes),
  }
}
