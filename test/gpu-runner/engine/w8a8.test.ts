import { join } from 'node:path'
import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import { quantizeChannels } from '@graft/runner/engine/graph/quantise/channels.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { readSafetensors } from '@graft/sdk/format/safetensors.ts'
import { expect, test } from 'vitest'
import { logitsOf } from './measure.ts'
import { readBytes, readJson, readLogits, worstPosition } from './peer-goldens.ts'

/** Codes and scales of bitsandbytes' LLM.int8(): fixtures/make-w8a8.py. */
const FIXTURE = join(import.meta.dirname, 'fixtures/w8a8')
const checkpoint = await readCheckpoint(
  join(import.meta.dirname, '../../../infra/samples/base/graft-tiny'),
)
const [OUT, IN] = [128, 256]
const NAME = 'model.layers.0.self_attn.k_proj.weight'

test('codes and scales by output are those of bitsandbytes, turned to [in, out]', async () => {
  const { tensors } = readSafetensors(await readBytes(join(FIXTURE, 'k_proj.safetensors')))
  const codes = new Int8Array(Uint8Array.from(tensors.get('codes')!.data).buffer)
  const absmax = new Float32Array(Uint8Array.from(tensors.get('absmax')!.data).buffer)
  const w = checkpoint.f32(NAME, [OUT, IN])
  const { q, scales } = quantizeChannels([w], { out: OUT, in: IN })
  expect(scales).toEqual(absmax.map((most) => most / 127))
  const turned = Int8Array.from({ length: q.length }, (_, i) => {
    const [inner, out] = [Math.floor(i / OUT), i % OUT]
    return codes[out * IN + inner]!
  })
  expect(Buffer.from(q.buffer).equals(Buffer.from(turned.buffer))).toBe(true)
})

test('rows in bands of any height give the same codes; a row of zeros has scale 0', () => {
  const w = checkpoint.f32(NAME, [OUT, IN]).slice()
  w.fill(0, 5 * IN, 6 * IN)
  const whole = quantizeChannels([w], { out: OUT, in: IN })
  const bands = [0, 3, 70, 71, OUT].map((row) => row * IN)
  const parts = bands.slice(1).map((end, i) => w.subarray(bands[i], end))
  expect(quantizeChannels(parts, { out: OUT, in: IN })).toEqual(whole)
  expect(whole.scales[5]).toBe(0)
  for (let i = 0; i < IN; i++) expect(whole.q[i * OUT + 5]).toBe(0)
})

test('logits are those of integer products over codes of bitsandbytes', async () => {
  const { prompts, positions } = await readJson<{ prompts: number[][]; positions: number }>(
    join(FIXTURE, 'goldens.json'),
  )
  const goldens = await readLogits(join(FIXTURE, 'goldens.safetensors'))
  const baseDigest = fromHex('0'.repeat(64))
  await using engine = await openOnnxEngine({ checkpoint, baseDigest, precision: 'w8a8', slots: 2 })
  await using full = await openOnnxEngine({ checkpoint, baseDigest, slots: 2 })
  const { vocab } = engine.info
  for (const [i, prompt] of prompts.entries()) {
    const want = goldens.get(String(i))!
    const last = (logits: Float32Array) => logits.subarray(-positions * vocab)
    const own = worstPosition(last(await logitsOf(engine, [], prompt)), want, vocab)
    const unquantised = worstPosition(last(await logitsOf(full, [], prompt)), want, vocab)
    expect(own).toBeLessThan(1e-5)
    expect(unquantised).toBeGreaterThan(0.02)
  }
})
