import { mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Checkpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import { linearSites } from '@graft/runner/engine/graph/sites.ts'

export interface RandomFolder {
  dir: string
  remove(): Promise<void>
}

/** Writes a base in memory as a Hugging Face folder in bf16, for what reads its weights from files. */
export async function writeRandomFolder({ config, f32 }: Checkpoint): Promise<RandomFolder> {
  const dir = await mkdtemp(join(tmpdir(), 'graft-bench-'))
  const { hidden, vocab, layers } = config
  const shapes: [string, number[]][] = [
    ['model.embed_tokens.weight', [vocab, hidden]],
    ['lm_head.weight', [vocab, hidden]],
    ['model.norm.weight', [hidden]],
    ...Array.from({ length: layers }, (_, layer) =>
      ['input_layernorm', 'post_attention_layernorm'].map((norm): [string, number[]] => [
        `model.layers.${layer}.${norm}.weight`,
        [hidden],
      ]),
    ).flat(),
    ...linearSites(config).map(({ path, in: inner, out }): [string, number[]] => [
      `${path}.weight`,
      [out, inner],
    ]),
  ]
  const header: Record<string, unknown> = {}
  let end = 0
  for (const [name, shape] of shapes) {
    const bytes = 2 * shape.reduce((a, b) => a * b, 1)
    header[name] = { dtype: 'BF16', shape, data_offsets: [end, end + bytes] }
    end += bytes
  }
  const file = await open(join(dir, 'model.safetensors'), 'w')
  try {
    const text = JSON.stringify(header)
    // Padded as writers do, so that tensors stay aligned.
    const json = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8))
    const length = Buffer.alloc(8)
    length.writeBigUInt64LE(BigInt(json.length))
    await file.write(Buffer.concat([length, json]))
    for (const [name, shape] of shapes) await file.write(bf16(f32(name, shape)))
  } finally {
    await file.close()
  }
  const json = {
    architectures: [config.architecture],
    model_type: config.modelType,
    vocab_size: vocab,
    hidden_size: hidden,
    intermediate_size: config.intermediate,
    num_hidden_layers: layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    head_dim: config.headDim,
    max_position_embeddings: config.maxPositions,
    rope_theta: config.ropeTheta,
    rms_norm_eps: config.normEpsilon,
    hidden_act: 'silu',
    tie_word_embeddings: config.tiedHead,
  }
  await writeFile(join(dir, 'config.json'), JSON.stringify(json))
  return { dir, remove: () => rm(dir, { recursive: true, force: true }) }
}

/** The upper halves of f32 values: which way the last bit is rounded says nothing about speed. */
function bf16(values: Float32Array): Uint8Array {
  const halves = new Uint16Array(values.buffer, values.byteOffset, values.length * 2)
  const out = new Uint16Array(values.length)
  for (let i = 0; i < out.length; i++) out[i] = halves[2 * i + 1]!
  return new Uint8Array(out.buffer)
}
