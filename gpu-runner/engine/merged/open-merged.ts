import type { Engine, LoadedAdapter } from '../engine.ts'
import { type EngineOptions, openEngine } from '../open-engine.ts'

/**
 * An engine over the base with the adapter in its weights, in a thread of its own: reading, merging, quantising and
 * building the graph all happen there. Its first step is made here, so that no sequence waits for the session.
 * @throws ERR_OPERATION_UNSUPPORTED, ERR_CHECKPOINT_INVALID
 */
export async function openMergedEngine(
  options: EngineOptions,
  adapter: LoadedAdapter,
): Promise<Engine> {
  const engine = await openEngine({ ...options, merge: adapter, bankBudgetBytes: 0 })
  try {
    await engine.open(0, [])
    await engine.step([{ sequence: 0, tokenIds: [0], logits: 'last' }])
    await engine.close(0)
    return engine
  } catch (e) {
    await engine[Symbol.asyncDispose]()
    throw e
  }
}
