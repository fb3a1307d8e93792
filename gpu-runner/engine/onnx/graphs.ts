import type { Checkpoint } from '../../checkpoint/read-checkpoint.ts'
import type { KvPrecision } from '../bank/kv-format.ts'
import { buildDecoder } from '../graph/decoder.ts'
import type { Execution } from '../graph/execution.ts'
import type { Precision } from '../graph/linear-weights.ts'
import type { Variant } from '../graph/variants.ts'
import { MemoryWeights } from '../graph/weight-file.ts'
import { PreparedWeights } from '../prepared/prepared-weights.ts'
import type { Ort } from './ort.ts'
import { createSession } from './session.ts'

/** The sessions of one base: a variant's is made when it is first needed, all read the same weights. */
export interface Graphs {
  session(variant: Variant): Promise<Ort.InferenceSession>
  dispose(): Promise<void>
}

export interface GraphsOptions {
  checkpoint: Checkpoint
  precision: Precision
  execution: Execution
  /** Of past keys and values, where the host holds them. */
  kvPrecision: KvPrecision
  threads: number
  /** Where the weights are prepared; undefined: in memory. */
  folder: string | undefined
}

export async function openGraphs({
  checkpoint,
  precision,
  execution,
  kvPrecision,
  threads,
  folder,
}: GraphsOptions): Promise<Graphs> {
  const weights = folder === undefined ? new MemoryWeights() : await PreparedWeights.open(folder)
  const build = (variant: Variant) =>
    buildDecoder(checkpoint, precision, variant, execution, weights, kvPrecision)
  if (weights instanceof PreparedWeights && !weights.complete) await prepare(weights, build)
  const create = async (variant: Variant): Promise<Ort.InferenceSession> => {
    const model = build(variant)
    if (weights instanceof PreparedWeights)
      return createSession(
        await weights.addModel(`${variant}-${execution}-kv-${kvPrecision}`, model),
        {
          execution,
          threads,
        },
      )
    const external = { path: weights.name, data: weights.bytes }
    return createSession(model, { execution, threads, external })
  }
  const sessions = new Map<Variant, Promise<Ort.InferenceSession>>()
  return {
    session(variant) {
      const known = sessions.get(variant)
      if (known) return known
      const created = create(variant)
      sessions.set(variant, created)
      created.catch(() => sessions.delete(variant))
      return created
    },
    async dispose() {
      for (const created of sessions.values())
        await created.then(
          (it) => it.release(),
          () => {},
        )
      sessions.clear()
    },
  }
}

/** Every variant reads the weights of the smallest one. */
async function prepare(
  weights: PreparedWeights,
  build: (variant: Variant) => Uint8Array,
): Promise<void> {
  try {
    build('base')
    await weights.seal()
  } catch (e) {
    await weights.abandon()
    throw e
  }
}
