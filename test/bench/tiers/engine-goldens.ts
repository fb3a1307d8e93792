import type { Engine } from '@graft/runner/engine/engine.ts'
import { convertTensors } from '@graft/runner/tiers/adapter-tensors.ts'
import { sha256Of } from '@graft/runner/tiers/version-record.ts'
import type { SigningKey } from '@graft/sdk/format/jws.ts'
import type { Goldens } from '@graft/sdk/format/manifest.ts'
import { type Tensor, writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import { randomPrompt } from '../rows.ts'
import { type LoraFile, signedRecord } from './lora-files.ts'

/** As many and as long as the samples' goldens. */
export const GOLDENS = { prompts: 3, tokens: 12, positions: 4 }

/**
 * Goldens of a random adapter on a random base by the engine itself: what admission costs depends on how many there
 * are, and that the engine agrees with other tools is other tests' business. The adapter is out of the engine again.
 */
export async function engineGoldens(
  engine: Engine,
  lora: LoraFile,
  key: SigningKey,
): Promise<{ facts: Goldens; logits: Uint8Array }> {
  const { vocab } = engine.info
  // bf16 as f32.
  const memory = new SharedArrayBuffer(2 * lora.safetensors.length)
  const record = await signedRecord(lora, key)
  await engine.load(convertTensors(record, lora.digest, lora.safetensors, memory))
  const positions = Array.from(
    { length: GOLDENS.positions },
    (_, i) => GOLDENS.tokens - GOLDENS.positions + i,
  )
  const tensors = new Map<string, Tensor>()
  const prompts: Goldens['prompts'] = []
  for (let i = 0; i < GOLDENS.prompts; i++) {
    const tokenIds = randomPrompt(1000 + i, GOLDENS.tokens, vocab)
    prompts.push({ tokenIds, positions, greedy: { tokenIds: [], margins: [] } })
    for (const kind of ['base', 'adapted']) {
      const sequence = 1_000_000
      await engine.open(sequence, kind === 'base' ? [] : [{ digest: lora.digest, weight: 1 }])
      const { rows } = await engine.step([{ sequence, tokenIds, logits: 'all' }])
      await engine.close(sequence)
      const wanted = rows[0]!.logits.slice(positions[0]! * vocab)
      const data = new Uint8Array(wanted.buffer)
      tensors.set(`${kind}.${i}`, { dtype: 'F32', shape: [positions.length, vocab], data })
    }
  }
  await engine.unload(lora.digest)
  const logits = writeSafetensors(tensors)
  const { precision } = engine.info
  return {
    facts: {
      producer: `graft@${engine.info.build}`,
      basePrecision: precision,
      logits: { sha256: sha256Of(logits), size: logits.length },
      prompts,
    },
    logits,
  }
}
