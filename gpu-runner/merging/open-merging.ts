import type { BaseTensor } from '@graft/sdk/format/base-identity.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { ENGINE_DEFAULTS } from '../engine/defaults.ts'
import type { Engine } from '../engine/engine.ts'
import { formBytes } from '../engine/merged/form-bytes.ts'
import { createMergingEngine } from '../engine/merged/merging-engine.ts'
import { openMergedEngine, removeLeftovers } from '../engine/merged/open-merged.ts'
import type { EngineOptions } from '../engine/open-engine.ts'
import { calibrate } from './calibrate.ts'
import type { MergeOption } from './merge-option.ts'
import { type MergingOptions, WINDOW_MS } from './merging.ts'
import { createTrafficWindow } from './traffic.ts'

const MIB = 2 ** 20

/** A base that nobody uses yet, and how it was opened: merged forms are opened likewise. */
export interface OpenedBase {
  engine: Engine
  options: EngineOptions
  tensors: readonly BaseTensor[]
  /** What opening took. */
  ms: number
}

/**
 * Puts merging over an engine; its steps are timed first where traffic is to decide.
 * @throws ERR_REQUEST_INVALID when the memory holds no form at all
 */
export async function openMerging(
  { engine: base, options, tensors, ms }: OpenedBase,
  option: Exclude<MergeOption, { when: 'never' }>,
): Promise<MergingOptions> {
  const settings = { ...ENGINE_DEFAULTS, ...options }
  const bytes = formBytes(tensors, settings.precision, base.info, settings)
  const budgetBytes = option.budgetBytes ?? bytes
  if (budgetBytes < bytes)
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      expected(
        'merge',
        `at least the ${Math.ceil(bytes / MIB)} MiB of one merged base, or off`,
        `${Math.floor(budgetBytes / MIB)} MiB`,
      ),
    )
  if (options.preparedDir) await removeLeftovers(options.preparedDir)
  const begin = performance.now()
  const auto = option.when === 'traffic' ? await calibrate(base) : null
  const traffic = createTrafficWindow(WINDOW_MS)
  return {
    engine: createMergingEngine({
      base,
      openMerged: (adapter) => openMergedEngine(options, adapter),
      formBytes: bytes,
      budgetBytes,
      onStep: (sample) => traffic.add(sample, Date.now()),
    }),
    traffic,
    auto,
    rebuildMs: ms + performance.now() - begin,
  }
}
