import { dirname } from 'node:path'
import { importPeer } from '../prepare-peers.ts'
import { seededUniform } from '../random-base.ts'
import type { Shape } from '../shapes.ts'

/** What the bench uses of transformers.js 4; the package is installed apart, so its own types are not at hand. */
interface TransformersJs {
  env: { allowRemoteModels: boolean; localModelPath: string; version: string }
  AutoModelForCausalLM: {
    from_pretrained(name: string, options: Record<string, unknown>): Promise<Model>
  }
  DynamicCache: new (entries: Record<string, Tensor>) => object
  Tensor: new (type: string, data: Float32Array | BigInt64Array, dims: number[]) => Tensor
}
interface Tensor {
  tolist(): bigint[][]
}
interface Model {
  generate(options: Record<string, unknown>): Promise<Tensor>
}

/** A model folder opened by transformers.js itself, on the CPU. */
export async function openTransformersJs(folder: string, threads: number) {
  const { AutoModelForCausalLM, DynamicCache, Tensor, env } = await importPeer<TransformersJs>(
    '@huggingface/transformers',
  )
  env.allowRemoteModels = false
  env.localModelPath = `${dirname(folder)}/`
  const model = await AutoModelForCausalLM.from_pretrained(
    folder.slice(dirname(folder).length + 1),
    {
      dtype: 'q4',
      device: 'cpu',
      session_options: { intraOpNumThreads: threads, interOpNumThreads: 1, logSeverityLevel: 3 },
    },
  )
  const longs = (rows: number[][]): Tensor =>
    new Tensor('int64', BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0]!.length])

  return {
    version: env.version,
    /** Greedy answers to prompts of one length. */
    async answer(prompts: number[][], count: number): Promise<number[][]> {
      const sequences = await model.generate({
        input_ids: longs(prompts),
        attention_mask: longs(prompts.map((ids) => ids.map(() => 1))),
        max_new_tokens: count,
        do_sample: false,
      })
      return sequences.tolist().map((ids) => ids.slice(prompts[0]!.length).map(Number))
    },
    /** Milliseconds of each decode step of its own generate(), over a cache of seeded values. */
    async decode(rows: number, past: number, steps: number, shape: Shape): Promise<number[]> {
      const { layers, kvHeads, headDim } = shape
      const values = seededUniform(past, rows * kvHeads * past * headDim, 1)
      const entries: Record<string, Tensor> = {}
      for (let layer = 0; layer < layers; layer++)
        for (const kind of ['key', 'value'])
          entries[`past_key_values.${layer}.${kind}`] = new Tensor('float32', values, [
            rows,
            kvHeads,
            past,
            headDim,
          ])
      const times: number[] = []
      await model.generate({
        input_ids: longs(Array.from({ length: rows }, (_, row) => [300 + row])),
        attention_mask: longs(Array.from({ length: rows }, () => Array(past + 1).fill(1))),
        past_key_values: new DynamicCache(entries),
        max_new_tokens: steps + 1,
        do_sample: false,
        streamer: { put: () => times.push(performance.now()), end: () => {} },
      })
      // The first call has the prompt, the second ends a step that was not timed from its start.
      return times.slice(2).map((time, i) => time - times[i + 1]!)
    },
  }
}
