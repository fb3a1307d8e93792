import type { ModelConfig } from '@graft/runner/checkpoint/model-config.ts'
import type { Checkpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'

/** Uniform values from a seed (xorshift32), with the spread that keeps activations of a deep model in range. */
export function seededUniform(seed: number, length: number, spread: number): Float32Array {
  let state = seed | 1
  const values = new Float32Array(length)
  const factor = spread / 2 ** 31
  for (let i = 0; i < length; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    values[i] = state * factor
  }
  return values
}

/** A Llama of seeded random weights that exists only in memory; speed depends on shapes, not on values. */
export function randomBase(
  name: string,
  shape: Pick<
    ModelConfig,
    'hidden' | 'intermediate' | 'layers' | 'heads' | 'kvHeads' | 'headDim' | 'vocab'
  >,
): Checkpoint {
  const config: ModelConfig = {
    ...shape,
    architecture: 'LlamaForCausalLM',
    modelType: 'llama',
    maxPositions: 2048,
    ropeTheta: 10_000,
    normEpsilon: 1e-5,
    tiedHead: false,
    attentionBias: false,
    mlpBias: false,
    eosIds: [],
  }
  // One tensor per shape: every layer still has its own bytes in the graph, and only shapes matter here.
  const known = new Map<string, Float32Array>()
  return {
    name,
    config,
    weights: new Map(),
    f32(tensor, dims) {
      const norm = tensor.endsWith('norm.weight')
      const key = `${norm} ${dims}`
      const length = dims.reduce((a, b) => a * b, 1)
      const values =
        known.get(key) ??
        (norm
          ? new Float32Array(length).fill(1)
          : seededUniform(known.size + 1, length, 1.7 / Math.sqrt(dims.at(-1)!)))
      known.set(key, values)
      return values
    },
  }
}
