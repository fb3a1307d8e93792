/** What the bench uses of node-llama-cpp 3; the package is installed apart, so its own types are not at hand. */
export interface NodeLlamaCpp {
  getLlama(options: {
    gpu: false
    build: 'never'
    maxThreads: number
    logLevel: 'error'
  }): Promise<Llama>
}

interface Llama {
  loadModel(options: { modelPath: string }): Promise<LlamaModel>
  dispose(): Promise<void>
}

export interface LlamaModel {
  createContext(options: {
    sequences: number
    contextSize: number
    threads: number
    lora?: { adapters: { filePath: string }[] }
  }): Promise<LlamaContext>
  detokenize(tokens: number[], specialTokens: boolean, lastTokens: readonly number[]): string
}

interface LlamaContext {
  getSequence(): LlamaSequence
  dispose(): Promise<void>
}

export interface LlamaSequence {
  clearHistory(): Promise<void>
  evaluate(
    tokens: readonly number[],
    options: {
      temperature: number
      topP: number
      topK: number
      minP: number
      seed: number
      yieldEogToken: boolean
    },
  ): AsyncIterable<number>
}
