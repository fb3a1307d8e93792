import { importPeer } from '../prepare-peers.ts'
import { type Answer, type Mode, type Request, SAMPLING } from './answer.ts'
import type { LlamaModel, LlamaSequence, NodeLlamaCpp } from './node-llama-cpp.ts'

/** The base in llama.cpp, on as many threads as Graft gets. */
export async function openLlama(modelPath: string, threads: number) {
  const { getLlama } = await importPeer<NodeLlamaCpp>('node-llama-cpp')
  const llama = await getLlama({
    gpu: false,
    build: 'never',
    maxThreads: threads,
    logLevel: 'error',
  })
  const model = await llama.loadModel({ modelPath })
  return {
    /** A context of several sequences, all under the same adapter or none: llama.cpp's own limit. */
    async openContext(sequences: number, contextSize: number, lora: string | null) {
      const context = await model.createContext({
        sequences,
        contextSize,
        threads,
        ...(lora === null ? {} : { lora: { adapters: [{ filePath: lora }] } }),
      })
      const rows = Array.from({ length: sequences }, () => context.getSequence())
      return {
        ask: (requests: readonly Request[], mode: Mode, maxTokens: number) =>
          askLlama(model, rows, requests, mode, maxTokens),
      }
    },
    [Symbol.asyncDispose]: () => llama.dispose(),
  }
}

/** Evaluates all requests at once, as node-llama-cpp batches sequences of one context. */
async function askLlama(
  model: LlamaModel,
  rows: readonly LlamaSequence[],
  requests: readonly Request[],
  mode: Mode,
  maxTokens: number,
): Promise<Answer[]> {
  for (const row of rows) await row.clearHistory()
  const begin = performance.now()
  return Promise.all(
    requests.map(async ({ promptIds, seed }, i) => {
      const answer: Answer = { tokenIds: [], text: '', firstMs: 0, lastMs: 0 }
      // Cuts that the other side does not make are off; node-llama-cpp's defaults are for chats.
      const options = { ...SAMPLING[mode], topK: 0, minP: 0, seed, yieldEogToken: true }
      for await (const token of rows[i]!.evaluate(promptIds, options)) {
        answer.text += model.detokenize([token], false, answer.tokenIds)
        answer.tokenIds.push(token)
        answer.lastMs = performance.now() - begin
        answer.firstMs ||= answer.lastMs
        if (answer.tokenIds.length >= maxTokens) break
      }
      return answer
    }),
  )
}
