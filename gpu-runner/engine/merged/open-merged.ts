import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ENGINE_DEFAULTS } from '../defaults.ts'
import type { Engine, LoadedAdapter } from '../engine.ts'
import { type EngineOptions, openEngine } from '../open-engine.ts'
import { prepareMerged } from './prepare-merged.ts'

const PREFIX = 'merged-'

/**
 * An engine over the base with the adapter in its weights, in a thread of its own. The weights are prepared by another
 * thread beside those of the base, and go with the engine. Its first step is made here, so that no sequence waits for
 * the session.
 * @throws ERR_OPERATION_UNSUPPORTED, ERR_CHECKPOINT_INVALID
 */
export async function openMergedEngine(
  options: EngineOptions,
  adapter: LoadedAdapter,
): Promise<Engine> {
  const { checkpointDir, precision, execution } = { ...ENGINE_DEFAULTS, ...options }
  const parent = options.preparedDir ?? tmpdir()
  await mkdir(parent, { recursive: true })
  const folder = await mkdtemp(join(parent, PREFIX))
  let engine: Engine | undefined
  const dispose = async (): Promise<void> => {
    await engine?.[Symbol.asyncDispose]()
    await rm(folder, { recursive: true, force: true })
  }
  try {
    await prepareMerged({ checkpointDir, precision, execution, adapter, folder })
    engine = await openEngine({ ...options, merged: { adapter, folder }, bankBudgetBytes: 0 })
    await engine.open(0, [])
    await engine.step([{ sequence: 0, tokenIds: [0], logits: 'last' }])
    await engine.close(0)
    return { ...engine, [Symbol.asyncDispose]: dispose }
  } catch (e) {
    await dispose()
    throw e
  }
}

/** Removes merged weights that a process left behind which could not end in peace. */
export async function removeLeftovers(preparedDir: string): Promise<void> {
  for (const name of await readdir(preparedDir).catch(() => []))
    if (name.startsWith(PREFIX)) await rm(join(preparedDir, name), { recursive: true, force: true })
}
