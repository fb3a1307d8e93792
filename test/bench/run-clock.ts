import { ort } from '@graft/runner/engine/onnx/ort.ts'

interface Runs {
  run(...args: unknown[]): Promise<unknown>
}

let spent: number | null = null

/**
 * Watches onnxruntime itself: how much of a step is the graph, and how much is what stands around it.
 * @returns milliseconds spent in session.run since the last call
 */
export function watchRuns(): () => number {
  if (spent === null) watch()
  return () => {
    const ms = spent ?? 0
    spent = 0
    return ms
  }
}

function watch(): void {
  spent = 0
  const { prototype } = ort.InferenceSession as unknown as { prototype: Runs }
  const { run } = prototype
  prototype.run = async function (this: Runs, ...args) {
    const begin = performance.now()
    try {
      return await run.apply(this, args)
    } finally {
      spent = (spent ?? 0) + performance.now() - begin
    }
  }
}
