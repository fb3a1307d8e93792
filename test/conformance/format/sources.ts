import { type Tensor, writeSafetensors } from '@graft/sdk/format/safetensors.ts'

/** One LoRA of q_proj and k_proj as numbers, to be written as each tool would. */
export interface Lora {
  rank: number
  alpha: number
  /** By site: A [rank, in], B [out, rank]. */
  modules: {
    site: string
    in: number
    out: number
    heads: number
    A: Float32Array
    B: Float32Array
  }[]
}

export type Files = Map<string, Uint8Array>

const json = (value: unknown): Uint8Array =>
  new TextEncoder().encode(JSON.stringify(value, null, 2))
const f32 = (shape: number[], values: ArrayLike<number>): Tensor => ({
  dtype: 'F32',
  shape,
  data: new Uint8Array(Float32Array.from(values).buffer),
})

function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(values.length)
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) out[c * rows + r] = values[r * columns + c]!
  return out
}

/** llama.cpp's order of a rotary head's rows: the two halves side by side, not one after the other. */
function interleaved({ B, out, heads }: Lora['modules'][number], rank: number): Float32Array {
  const half = out / heads / 2
  const turned = new Float32Array(B.length)
  for (let head = 0; head < heads; head++)
    for (let i = 0; i < half; i++)
      for (let side = 0; side < 2; side++) {
        const from = (head * 2 + side) * half + i
        const to = (head * half + i) * 2 + side
        turned.set(B.subarray(from * rank, (from + 1) * rank), to * rank)
      }
  return turned
}

function gguf(
  metadata: [string, string | number][],
  tensors: [string, number[], Float32Array][],
): Uint8Array {
  const parts: Uint8Array[] = []
  const push = (bytes: number, write: (view: DataView) => void): void => {
    const part = new Uint8Array(bytes)
    write(new DataView(part.buffer))
    parts.push(part)
  }
  const u32 = (value: number) => push(4, (v) => v.setUint32(0, value, true))
  const u64 = (value: number) => push(8, (v) => v.setBigUint64(0, BigInt(value), true))
  const text = (value: string): void => {
    const bytes = new TextEncoder().encode(value)
    u64(bytes.length)
    parts.push(bytes)
  }
  const pad = (): void => {
    const size = parts.reduce((sum, part) => sum + part.length, 0)
    parts.push(new Uint8Array((32 - (size % 32)) % 32))
  }
  parts.push(new TextEncoder().encode('GGUF'))
  u32(3)
  u64(tensors.length)
  u64(metadata.length)
  for (const [key, value] of metadata) {
    text(key)
    u32(typeof value === 'string' ? 8 : 6)
    if (typeof value === 'string') text(value)
    else push(4, (v) => v.setFloat32(0, value, true))
  }
  let at = 0
  for (const [name, shape, values] of tensors) {
    text(name)
    u32(shape.length)
    for (const dim of shape.toReversed()) u64(dim)
    u32(0)
    u64(at)
    at += Math.ceil((values.length * 4) / 32) * 32
  }
  pad()
  for (const [, , values] of tensors) {
    parts.push(new Uint8Array(values.slice().buffer))
    pad()
  }
  const size = parts.reduce((sum, part) => sum + part.length, 0)
  const file = new Uint8Array(size)
  let offset = 0
  for (const part of parts) {
    file.set(part, offset)
    offset += part.length
  }
  return file
}

/** The files of one adapter in every tool's format that can hold it exactly. */
export const SOURCES: Record<string, (lora: Lora) => Files> = {
  peft: ({ rank, alpha, modules }) =>
    new Map([
      [
        'adapter_config.json',
        json({
          ...{ peft_type: 'LORA', base_model_name_or_path: 'kit', r: rank, lora_alpha: alpha },
          target_modules: ['k_proj', 'q_proj'],
        }),
      ],
      [
        'adapter_model.safetensors',
        writeSafetensors(
          new Map(
            modules.flatMap(({ site, in: inside, out, A, B }): [string, Tensor][] => [
              [`base_model.model.${site}.lora_A.weight`, f32([rank, inside], A)],
              [`base_model.model.${site}.lora_B.weight`, f32([out, rank], B)],
            ]),
          ),
          { format: 'pt' },
        ),
      ],
    ]),
  mlx: ({ rank, alpha, modules }) =>
    new Map([
      [
        'adapter_config.json',
        json({
          ...{ fine_tune_type: 'lora', model: 'kit', num_layers: 1 },
          lora_parameters: {
            ...{ rank, scale: alpha / rank, dropout: 0 },
            keys: ['self_attn.q_proj', 'self_attn.k_proj'],
          },
        }),
      ],
      [
        'adapters.safetensors',
        writeSafetensors(
          new Map(
            modules.flatMap(({ site, in: inside, out, A, B }): [string, Tensor][] => [
              [`${site}.lora_a`, f32([inside, rank], transposed(A, rank, inside))],
              [`${site}.lora_b`, f32([rank, out], transposed(B, out, rank))],
            ]),
          ),
        ),
      ],
    ]),
  kohya: ({ rank, alpha, modules }) =>
    new Map([
      [
        'lora.safetensors',
        writeSafetensors(
          new Map(
            modules.flatMap(({ site, in: inside, out, A, B }): [string, Tensor][] => {
              const name = `lora_te_${site.replaceAll('.', '_')}`
              return [
                [`${name}.lora_down.weight`, f32([rank, inside], A)],
                [`${name}.lora_up.weight`, f32([out, rank], B)],
                [`${name}.alpha`, f32([], [alpha])],
              ]
            }),
          ),
          { ss_network_dim: String(rank), ss_network_module: 'networks.lora' },
        ),
      ],
    ]),
  adapters: ({ rank, alpha, modules }) =>
    new Map([
      [
        'adapter_config.json',
        json({
          config: {
            ...{ architecture: 'lora', alpha, r: rank, attn_matrices: ['q', 'k'] },
            ...{ composition_mode: 'add', dropout: 0, init_weights: 'lora', leave_out: [] },
            ...{
              intermediate_lora: false,
              output_lora: false,
              selfattn_lora: true,
              use_gating: false,
            },
          },
          ...{
            hidden_size: 8,
            model_class: 'LlamaForCausalLM',
            model_name: 'kit',
            model_type: 'llama',
          },
          ...{ name: 'kit', version: 'adapters.1.3.0' },
        }),
      ],
      [
        'adapter.safetensors',
        writeSafetensors(
          new Map(
            modules.flatMap(({ site, in: inside, out, A, B }): [string, Tensor][] => [
              [`${site}.loras.kit.lora_A`, f32([rank, inside], A)],
              [`${site}.loras.kit.lora_B`, f32([out, rank], B)],
            ]),
          ),
        ),
      ],
    ]),
  gguf: ({ rank, alpha, modules }) =>
    new Map([
      [
        'adapter.gguf',
        gguf(
          [
            ['general.architecture', 'llama'],
            ['general.type', 'adapter'],
            ['adapter.type', 'lora'],
            ['adapter.lora.alpha', alpha],
          ],
          modules.flatMap((module): [string, number[], Float32Array][] => {
            const name = `blk.0.attn_${module.site.endsWith('q_proj') ? 'q' : 'k'}.weight`
            return [
              [`${name}.lora_a`, [rank, module.in], module.A],
              [`${name}.lora_b`, [module.out, rank], interleaved(module, rank)],
            ]
          }),
        ),
      ],
    ]),
}
