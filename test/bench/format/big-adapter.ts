import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { BaseTensor } from '@graft/sdk/format/base-identity.ts'
import { structureDigest } from '@graft/sdk/format/base-identity.ts'
import { sha256 } from '@graft/sdk/format/digest.ts'
import type { BaseIdentity } from '@graft/sdk/format/manifest.ts'
import { layoutSafetensors } from '@graft/sdk/format/safetensors.ts'

const HIDDEN = 4096
const RANK = 64
/** Linears of a block, in and out. */
const LINEARS = {
  'self_attn.q_proj': [HIDDEN, HIDDEN],
  'self_attn.k_proj': [HIDDEN, 1024],
  'self_attn.v_proj': [HIDDEN, 1024],
  'self_attn.o_proj': [HIDDEN, HIDDEN],
  'mlp.gate_proj': [HIDDEN, 14_336],
  'mlp.up_proj': [HIDDEN, 14_336],
  'mlp.down_proj': [14_336, HIDDEN],
} as const

export interface BigAdapter {
  folder: string
  bytes: number
  base: { identity: BaseIdentity; tensors: BaseTensor[] }
}

/** A base of the 8B shape by its headers alone: no weight of it is ever read. */
async function headersOnly(layers: number): Promise<BigAdapter['base']> {
  const tensors = Array.from({ length: layers }, (_, layer) =>
    Object.entries(LINEARS).map(([name, [inside, out]]) => ({
      name: `model.layers.${layer}.${name}.weight`,
      dtype: 'BF16',
      shape: [out, inside],
    })),
  ).flat()
  const digest = await sha256('no bytes')
  const identity: BaseIdentity = {
    name: 'headers-8b',
    architecture: 'LlamaForCausalLM',
    modelType: 'llama',
    files: [{ path: 'model.safetensors', size: 1, sha256: digest }],
    structure: await structureDigest(tensors, false),
    structureWithDtype: await structureDigest(tensors, true),
    configDigest: digest,
    tokenizerDigest: null,
    quantization: null,
  }
  return { identity, tensors }
}

/** What PEFT saves of a rank-64 LoRA on all linears of an 8B base, values seeded, written without holding it. */
export async function writeBigAdapter(folder: string, layers: number): Promise<BigAdapter> {
  const sizes = Array.from({ length: layers }, (_, layer) =>
    Object.entries(LINEARS).flatMap(([name, [inside, out]]) =>
      (
        [
          ['A', [RANK, inside]],
          ['B', [out, RANK]],
        ] as const
      ).map(([part, shape]) => ({
        name: `base_model.model.model.layers.${layer}.${name}.lora_${part}.weight`,
        dtype: 'F32',
        shape: [...shape],
        bytes: 4 * shape[0] * shape[1],
      })),
    ),
  ).flat()
  const { header, order, size } = layoutSafetensors(sizes, { format: 'pt' })
  const file = await open(join(folder, 'adapter_model.safetensors'), 'w')
  try {
    await file.write(header)
    const bytes = new Map(sizes.map((row) => [row.name, row.bytes]))
    for (const [i, name] of order.entries()) {
      const values = new Float32Array(bytes.get(name)! / 4)
      for (let k = 0; k < values.length; k++)
        values[k] = ((Math.imul(k + i * 7919, 0x9e3779b1) >>> 8) / 2 ** 24 - 0.5) / 32
      await file.write(new Uint8Array(values.buffer))
    }
  } finally {
    await file.close()
  }
  const config = {
    peft_type: 'LORA',
    peft_version: '0.21.2',
    base_model_name_or_path: 'headers-8b',
    r: RANK,
    lora_alpha: 128,
    target_modules: Object.keys(LINEARS).map((name) => name.split('.')[1]),
  }
  const text = await open(join(folder, 'adapter_config.json'), 'w')
  await text.writeFile(JSON.stringify(config))
  await text.close()
  return { folder, bytes: size, base: await headersOnly(layers) }
}
