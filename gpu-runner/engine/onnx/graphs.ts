import type { Checkpoint } from '../../checkpoint/read-checkpoint.ts'
import type { KvPrecision } from '../bank/kv-format.ts'
import { buildDecoder } from '../graph/decoder.ts'
import type { Execution } from '../graph/execution.ts'
import type { Precision } from '../graph/linear-weights.ts'
import { PRECISIONS } from '../graph/precisions.ts'
import { linearSites } from '../graph/sites.ts'
import { joinTraits, NO_TRAITS, type Traits, traitsKey } from '../graph/traits.ts'
import { VARIANTS, type Variant } from '../graph/variants.ts'
import { MemoryWeights } from '../graph/weight-file.ts'
import { prepareWeights } from '../prepared/prepare-weights.ts'
import { PreparedWeights } from '../prepared/prepared-weights.ts'
import type { Ort } from './ort.ts'
import { createSession } from './session.ts'

/** The sessions of one base: a variant's is made when it is first needed, all read the same weights. */
export interface Graphs {
  /** What adapters to come ask of the graphs beyond what was asked. */
  ask(traits: Traits): void
  /** What was asked so far: what the next session is written for. */
  readonly traits: Traits
  /**
   * Whether variants that only save nodes are worth their memory: each packs the linears once more, and saves a few
   * milliseconds a step, which the bytes of a larger base hide.
   */
  readonly sparesNodes: boolean
  session(variant: Variant): Promise<Ort.InferenceSession>
  /** Frees sessions that others took the place of. No run may be under way. */
  releaseOutgrown(): Promise<void>
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
  if (weights instanceof PreparedWeights && !weights.complete)
    await prepare(weights, () => prepareWeights(checkpoint, weights, precision, execution))
  let traits = NO_TRAITS
  const create = async (variant: Variant): Promise<Ort.InferenceSession> => {
    const form = { precision, execution, variant, kvPrecision, traits }
    const model = buildDecoder(checkpoint, weights, form)
    if (!(weights instanceof PreparedWeights)) {
      const external = { path: weights.name, data: weights.bytes }
      return createSession(model, { execution, threads, external })
    }
    const asked = traitsKey(traits, VARIANTS[variant])
    const name = [variant, execution, 'kv', kvPrecision, asked].join('-')
    return createSession(await weights.addModel(name, model), { execution, threads })
  }
  /** By variant; one of a variant that has bottlenecks is written anew when others come. */
  const sessions = new Map<Variant, { traits: string; session: Promise<Ort.InferenceSession> }>()
  const outgrown: Promise<Ort.InferenceSession>[] = []
  return {
    ask(more) {
      traits = joinTraits(traits, more)
    },
    get traits() {
      return traits
    },
    sparesNodes: execution === 'cpu' && packedBytes(checkpoint, precision) <= SMALL_BYTES,
    session(variant) {
      const known = sessions.get(variant)
      const wanted = traitsKey(traits, VARIANTS[variant])
      if (known?.traits === wanted) return known.session
      // A run may still read it.
      if (known) outgrown.push(known.session)
      const session = create(variant)
      sessions.set(variant, { traits: wanted, session })
      session.catch(() => sessions.delete(variant))
      return session
    },
    async releaseOutgrown() {
      for (const session of outgrown.splice(0)) await release(session)
    },
    async dispose() {
      for (const session of outgrown.splice(0)) await release(session)
      for (const { session } of sessions.values()) await release(session)
      sessions.clear()
    },
  }
}

/** Linears of a base whose steps are ruled by nodes while few rows run. */
const SMALL_BYTES = 2 ** 28

function packedBytes({ config }: Checkpoint, precision: Precision): number {
  const values = linearSites(config).reduce((sum, { in: inner, out }) => sum + inner * out, 0)
  return (values * PRECISIONS[precision].bits) / 8
}

const release = (session: Promise<Ort.InferenceSession>): Promise<void> =>
  session.then(
    (it) => it.release(),
    () => {},
  )

async function prepare(weights: PreparedWeights, place: () => void): Promise<void> {
  try {
    place()
    await weights.seal()
  } catch (e) {
    await weights.abandon()
    throw e
  }
}
