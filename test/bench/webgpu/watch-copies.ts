import { ort } from '@graft/runner/engine/onnx/ort.ts'

/** Bytes that runs moved between host and device. */
export interface Copies {
  runs: number
  toDevice: number
  toHost: number
  /** Of both, what was keys and values. */
  kv: number
}

interface Tensor {
  location: string
  data: ArrayBufferView
}
type Tensors = Record<string, Tensor | null>
interface Runs {
  run(feeds: Tensors, ...rest: unknown[]): Promise<Tensors>
}

/** Inputs and outputs of the graph, both forms, that hold keys or values. */
const KV = /^((past|cache|present)\.\d+\.[kv](\.scale)?|new)$/

/**
 * Watches onnxruntime itself: what is fed from the host's memory goes to the device, what is fetched into it comes back.
 * No other copy happens within a run, since a session refuses operators that would run on the CPU.
 * @returns the copies since the last call
 */
export function watchCopies(): () => Copies {
  let copies: Copies = { runs: 0, toDevice: 0, toHost: 0, kv: 0 }
  const { prototype } = ort.InferenceSession as unknown as { prototype: Runs }
  const { run } = prototype
  const count = (tensors: Tensors, way: 'toDevice' | 'toHost'): void => {
    for (const [name, tensor] of Object.entries(tensors)) {
      if (tensor?.location !== 'cpu') continue
      copies[way] += tensor.data.byteLength
      if (KV.test(name)) copies.kv += tensor.data.byteLength
    }
  }
  prototype.run = async function (this: Runs, feeds, ...rest) {
    const outputs = await run.call(this, feeds, ...rest)
    copies.runs++
    count(feeds, 'toDevice')
    count(outputs, 'toHost')
    return outputs
  }
  return () => {
    const seen = copies
    copies = { runs: 0, toDevice: 0, toHost: 0, kv: 0 }
    return seen
  }
}
