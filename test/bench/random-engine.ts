import type { Checkpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Engine } from '@graft/runner/engine/engine.ts'
import { type OnnxEngineOptions, openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'

/** Of every figure that does not state another one. */
export const BASE_PRECISION = 'int4'

/** An engine over a base in memory, 4-bit unless said otherwise. */
export const openRandomEngine = (
  checkpoint: Checkpoint,
  options: Partial<OnnxEngineOptions> = {},
): Promise<Engine> =>
  openOnnxEngine({
    checkpoint,
    baseDigest: fromHex('0'.repeat(64)),
    precision: BASE_PRECISION,
    ...options,
  })
