import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import type { Operation } from '@graft/sdk/format/operations.ts'
import type { TensorSource } from '@graft/sdk/format/tensor-source.ts'
import type { Loss } from '../exporter.ts'
import { unfit } from '../way-out.ts'
import type { Family } from './families.ts'

/** What every method's export reads. */
export interface ExportWork {
  tensors: ReadonlyMap<string, TensorSource>
  family: Family
  /** Paths of the base's blocks. */
  blocks: readonly string[]
  sites: BaseSites
  /** Name of the adapter in keys. */
  name: string
}

/** One method's configuration and tensors. */
export interface ExportPart {
  config: Record<string, unknown>
  tensors: Map<string, TensorSource>
  losses: Loss[]
  notes: string[]
}

/** The block that a site lies in, and the path inside. */
export function placeOf({ blocks }: ExportWork, op: Operation): { layer: number; path: string } {
  const layer = blocks.findIndex((block) => op.site === block || op.site.startsWith(`${block}.`))
  if (layer < 0) unfit(op, 'AdapterHub adapts modules inside of blocks only')
  return { layer, path: op.site.slice(blocks[layer]!.length + 1) }
}

/** Layers without any operation, which a config can leave out. */
export const leftOut = ({ blocks }: ExportWork, layers: ReadonlySet<number>): number[] =>
  [...blocks.keys()].filter((layer) => !layers.has(layer))
