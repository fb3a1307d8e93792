import { type BaseSites, createBaseSites } from '@graft/sdk/format/base-sites.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Manifest } from '@graft/sdk/format/manifest.ts'
import type { Operation } from '@graft/sdk/format/operations.ts'
import type { ExportContext } from '../exporter.ts'
import { unfit } from '../way-out.ts'
import { countBlocks, inBlock } from './modules.ts'

export const sitesOf = (manifest: Manifest, { base }: ExportContext): BaseSites | null =>
  base ? createBaseSites(base.tensors, manifest.base.modelType) : null

/** mlx-lm's name of a module: its classes name the decoder `model`, whatever the checkpoint does. */
export function mlxPath(op: Operation, modelType: string): string {
  const { site } = op
  if (/\.experts\.\d+\./.test(site))
    unfit(op, 'mlx-lm stacks the experts of a layer into one, and takes no update of one alone')
  if (modelType === 'gpt2') return site.replace(/^(?:transformer\.)?h\./, 'model.h.')
  return /^(?:layers|embed_tokens|norm)\b/.test(site) ? `model.${site}` : site
}

/** A pair of embedding and head is one module there, and only the base tells whether it is a pair. */
export function checkPair(op: Operation, sites: BaseSites | null): void {
  if (!/(?:^|\.)(?:embed_tokens|wte|lm_head)$/.test(op.site)) return
  if (sites === null)
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      `${op.op} at ${op.site} is exported with the base at hand only: mlx-lm treats an embedding and a head that share their weight as one`,
    )
  if (sites.tiedHead !== null)
    unfit(op, 'the base shares the weight of embedding and head, and mlx-lm adapts both or none')
}

/**
 * How the config names the adapted modules: by their paths inside the last blocks where these are adapted alike, else by
 * their whole paths, which mlx-lm reads too.
 */
export function targetsOf(
  paths: readonly string[],
  sites: BaseSites | null,
): { num_layers: number; keys: string[] } {
  const places = paths.map(inBlock)
  const first = Math.min(...places.map((place) => place?.layer ?? Number.POSITIVE_INFINITY))
  const list = places.find((place) => place !== null)?.list
  const count = sites === null || list === undefined ? 0 : countBlocks(sites, list)
  const inner = [...new Set(places.map((place) => place?.inner ?? ''))]
  const alike =
    places.every((place) => place?.list === list) && paths.length === inner.length * (count - first)
  if (alike && count > first) return { num_layers: count - first, keys: inner.toSorted() }
  return { num_layers: -1, keys: paths.toSorted() }
}
