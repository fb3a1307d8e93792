import { importPeer } from '../../../bench/prepare-peers.ts'

/** What is used of node-llama-cpp 3, which is installed apart (npm run bench -- --prepare). */
interface NodeLlamaCpp {
  getLlama(options: object): Promise<{
    loadModel(options: { modelPath: string }): Promise<LlamaModel>
    dispose(): Promise<void>
  }>
}
interface LlamaModel {
  createContext(options: object): Promise<{
    getSequence(): {
      controlledEvaluate(
        input: [token: number, options: object][],
      ): Promise<({ next: { probabilities: Map<number, number> } } | undefined)[]>
    }
    dispose(): Promise<void>
  }>
}

/** llama.cpp on the CPU with keys and values in f32: nothing is rounded but by f32 arithmetic. */
export async function openLlamaCpp(modelPath: string) {
  const { getLlama } = await importPeer<NodeLlamaCpp>('node-llama-cpp')
  const llama = await getLlama({ gpu: false, build: 'never', maxThreads: 1, logLevel: 'disabled' })
  const model = await llama.loadModel({ modelPath })
  return {
    /** Probabilities of each next token [positions, vocab]. @throws when llama.cpp refuses the adapter */
    async probabilities(prompt: readonly number[], vocab: number, lora: string | null) {
      const context = await model.createContext({
        sequences: 1,
        contextSize: 256,
        threads: 1,
        flashAttention: false,
        experimentalKvCacheKeyType: 'F32',
        experimentalKvCacheValueType: 'F32',
        ...(lora === null ? {} : { lora: { adapters: [{ filePath: lora }] } }),
      })
      const answers = await context
        .getSequence()
        .controlledEvaluate(prompt.map((t) => [t, { generateNext: { probabilities: true } }]))
      await context.dispose()
      return answers.map((answer) =>
        Float64Array.from({ length: vocab }, (_, id) => answer!.next.probabilities.get(id) ?? 0),
      )
    },
    [Symbol.asyncDispose]: () => llama.dispose(),
  }
}

/** softmax of each row of logits [positions, vocab]. */
export function softmax(logits: Float32Array, vocab: number): Float64Array[] {
  return Array.from({ length: logits.length / vocab }, (_, row) => {
    const values = Float64Array.from(logits.subarray(row * vocab, (row + 1) * vocab))
    const most = Math.max(...values)
    const powers = values.map((v) => Math.exp(v - most))
    const sum = powers.reduce((a, b) => a + b, 0)
    return powers.map((v) => v / sum)
  })
}

/** Largest difference of the logarithms of two distributions, which is that of the logits but for a constant. */
export const logDistance = (got: readonly Float64Array[], want: readonly Float64Array[]): number =>
  got.length === want.length
    ? Math.max(
        ...got.map((row, i) =>
          row.reduce((w, p, id) => Math.max(w, Math.abs(Math.log(p) - Math.log(want[i]![id]!))), 0),
        ),
      )
    : Number.POSITIVE_INFINITY
