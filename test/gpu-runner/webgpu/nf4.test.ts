import { join } from 'node:path'
import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { expect, test } from 'vitest'
import { logitsOf } from '../engine/measure.ts'
import { readJson, readLogits, worstPosition } from '../engine/peer-goldens.ts'
import { describeOnWebGpu } from './adapter.ts'

/** What transformers computed on a base that bitsandbytes held in NF4: ../engine/fixtures/make-qlora.py. */
const FIXTURES = join(import.meta.dirname, '../engine/fixtures/nf4')
const SAMPLE = join(import.meta.dirname, '../../../infra/samples/base/graft-tiny')

describeOnWebGpu('a base in NF4 on the device', () => {
  test.each([
    ['nf4-exact', 1e-5],
    ['nf4', 0.07],
  ] as const)(
    '%s is within its error of a base of bitsandbytes',
    async (precision, limit) => {
      const { prompts } = await readJson<{ prompts: number[][] }>(join(FIXTURES, 'goldens.json'))
      const goldens = await readLogits(join(FIXTURES, 'goldens.safetensors'))
      await using engine = await openOnnxEngine({
        checkpoint: await readCheckpoint(SAMPLE),
        baseDigest: fromHex('0'.repeat(64)),
        precision,
        execution: 'webgpu',
        slots: 2,
      })
      const own = await logitsOf(engine, [], prompts[1]!)
      expect(worstPosition(own, goldens.get('base.1')!, engine.info.vocab)).toBeLessThan(limit)
    },
    120_000,
  )
})
