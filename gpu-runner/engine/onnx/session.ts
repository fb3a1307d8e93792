import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Execution } from '../graph/execution.ts'
import { exactProducts } from './exact-products.ts'
import { type Ort, ort } from './ort.ts'

export interface SessionOptions {
  execution: Execution
  /** Threads of one operator on the CPU. */
  threads: number
  /** Weights that stand beside the model, by the name it refers to them by. */
  external?: { path: string; data: Uint8Array }
  /** Outputs stay on the device, each in memory of its own; otherwise they come to the host or are given memory. */
  outputsOnDevice?: boolean
}

/** @throws ERR_NOT_INSTALLED when a graph is to run on WebGPU and the machine has no adapter */
export async function createSession(
  model: Uint8Array | string,
  { execution, threads, external, outputsOnDevice }: SessionOptions,
): Promise<Ort.InferenceSession> {
  try {
    return await create(model, {
      extra: {
        session: {
          ...STOPS_SPINNING,
          ...(await exactProducts()),
          ...(execution === 'webgpu' ? NO_FALLBACK : {}),
        },
      },
      ...(execution === 'webgpu' ? { executionProviders: ['webgpu'] } : {}),
      ...(external ? { externalData: [external] } : {}),
      ...(outputsOnDevice ? { preferredOutputLocation: 'gpu-buffer' } : {}),
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      logSeverityLevel: 3,
    })
  } catch (cause) {
    if (execution === 'webgpu' && /WebGPU adapter|webgpu.*not supported/i.test(String(cause)))
      throw new GraftError('ERR_NOT_INSTALLED', NO_ADAPTER, { cause })
    throw cause
  }
}

/** @param model bytes, or the path of a model whose weights lie beside it */
const create = (
  model: Uint8Array | string,
  options: Ort.InferenceSession.SessionOptions,
): Promise<Ort.InferenceSession> =>
  typeof model === 'string'
    ? ort.InferenceSession.create(model, options)
    : ort.InferenceSession.create(model, options)

/**
 * Threads of a session wait for its next operator by spinning. After a run they must not: the next step may be another
 * session's (a quarter of the time of 16 rows, where base and adapted steps alternate).
 */
const STOPS_SPINNING = { force_spinning_stop: '1' }

/** An operator that WebGPU lacks would run on the CPU and have its operands copied, each step: refused instead. */
const NO_FALLBACK = { disable_cpu_ep_fallback: '1' }

const NO_ADAPTER =
  'execution webgpu needs a GPU that Vulkan, Metal or Direct3D 12 can reach, and this machine offers none: ' +
  "install its driver (on Linux also the Vulkan loader, libvulkan1), or run with execution 'cpu'"
