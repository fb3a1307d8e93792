import { join } from 'node:path'
import { describeCheckpoint } from '@graft/runner/checkpoint/describe-checkpoint.ts'
import { type Checkpoint, readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { mergedCheckpoint } from '@graft/runner/engine/merged/merged-checkpoint.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { beforeAll, describe, expect, test } from 'vitest'
import { logitsOf } from './measure.ts'
import { importFolder, readJson, readLogits, worstPosition } from './peer-goldens.ts'

/** LoHa, LoKr, OFT, BOFT and FourierFT as PEFT saves them, with its logits: make.py there. */
const FIXTURES = join(import.meta.dirname, '../../sdk/convert/peft/dense')
const BASE = fromHex('b'.repeat(64))
const LIMIT = 1e-4

const { adapters: NAMES, prompts: PROMPTS } = await readJson<{
  adapters: string[]
  prompts: number[][]
}>(join(FIXTURES, 'goldens.json'))

describe('adapters of dense operations', () => {
  let checkpoint: Checkpoint
  let goldens: Map<string, Float32Array>
  const adapters = new Map<string, LoadedAdapter>()
  let worst = 0

  beforeAll(async () => {
    const base = await describeCheckpoint(join(FIXTURES, 'base'), 'dense')
    checkpoint = await readCheckpoint(join(FIXTURES, 'base'))
    goldens = await readLogits(join(FIXTURES, 'goldens.safetensors'))
    for (const name of NAMES) adapters.set(name, await importFolder(join(FIXTURES, name), base))
  })

  test.each(NAMES)('%s merged gives the logits of PEFT', async (name) => {
    const merged = mergedCheckpoint(checkpoint, adapters.get(name)!)
    const engine = await openOnnxEngine({ checkpoint: merged, baseDigest: BASE })
    for (const [i, prompt] of PROMPTS.entries()) {
      const own = await logitsOf(engine, [], prompt)
      const { vocab } = checkpoint.config
      const share = worstPosition(own, goldens.get(`${name}.${i}`)!, vocab)
      worst = Math.max(worst, share)
      expect(share).toBeLessThanOrEqual(LIMIT)
      expect(worstPosition(own, goldens.get(`base.${i}`)!, vocab)).toBeGreaterThan(0.01)
    }
    await engine[Symbol.asyncDispose]()
  })
})
