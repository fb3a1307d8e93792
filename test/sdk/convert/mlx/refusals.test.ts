import { readSafetensors, type Tensor, writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import { describe, expect, it } from 'vitest'
import { withConfig } from '../fixtures.ts'
import { baseNamed, importFixture } from './fixtures.ts'

type Files = Map<string, Uint8Array>

const withTensors =
  (edit: (tensors: Map<string, Tensor>) => void) =>
  (files: Files): void => {
    const { tensors } = readSafetensors(files.get('adapters.safetensors')!)
    edit(tensors)
    files.set('adapters.safetensors', writeSafetensors(tensors))
  }

const Q = 'model.layers.1.self_attn.q_proj'

describe('what an MLX folder may not be', () => {
  it.each<[string, string, (files: Files) => void, string, string]>([
    [
      'an unknown key',
      'llama-keys',
      withConfig({ rope_scale: 2 }),
      'ERR_CONFIG_UNKNOWN_KEY',
      '"rope_scale"',
    ],
    [
      'an alpha, which releases read otherwise',
      'llama-keys',
      withConfig({ alpha: 16 }, 'lora_parameters'),
      'ERR_METHOD_UNSUPPORTED',
      'lora_parameters: alpha',
    ],
    [
      'names of old releases',
      'llama-keys',
      withConfig({ use_dora: true }),
      'ERR_METHOD_UNSUPPORTED',
      'fine_tune_type',
    ],
    [
      'another type',
      'llama-keys',
      withConfig({ fine_tune_type: 'ia3' }),
      'ERR_CONFIG_INVALID',
      'fine_tune_type',
    ],
    [
      'no scale',
      'llama-keys',
      withConfig({ scale: undefined }, 'lora_parameters'),
      'ERR_CONFIG_INVALID',
      'scale',
    ],
    [
      'another rank',
      'llama-keys',
      withConfig({ rank: 4 }, 'lora_parameters'),
      'ERR_TENSOR_SHAPE',
      '[16,4]',
    ],
    [
      'layers that num_layers leaves out',
      'llama-keys',
      withConfig({ num_layers: 1 }),
      'ERR_CONFIG_INVALID',
      'model.layers.0.self_attn',
    ],
    [
      'modules that keys leave out',
      'llama-keys',
      withConfig({ keys: ['self_attn.q_proj'] }, 'lora_parameters'),
      'ERR_CONFIG_INVALID',
      'v_proj',
    ],
    [
      'keys that the weights leave out',
      'llama-keys',
      withConfig(
        { keys: ['self_attn.q_proj', 'self_attn.v_proj', 'mlp.up_proj'] },
        'lora_parameters',
      ),
      'ERR_TENSOR_MISSING',
      'mlp.up_proj',
    ],
    [
      'half of a pair',
      'llama-keys',
      withTensors((tensors) => tensors.delete(`${Q}.lora_b`)),
      'ERR_TENSOR_MISSING',
      `${Q}.lora_a`,
    ],
    [
      'DoRA without its magnitudes',
      'llama-trained-dora',
      withTensors((tensors) => tensors.delete(`${Q}.m`)),
      'ERR_TENSOR_MISSING',
      `${Q}.m`,
    ],
    [
      'magnitudes in a LoRA',
      'llama-trained-dora',
      withConfig({ fine_tune_type: 'lora' }),
      'ERR_TENSOR_UNMATCHED',
      '.m',
    ],
    [
      'DoRA on an embedding',
      'tied-embed',
      (files) => {
        withConfig({ fine_tune_type: 'dora' })(files)
        withConfig({ keys: ['model.embed_tokens'] }, 'lora_parameters')(files)
        withTensors((tensors) => {
          for (const key of tensors.keys()) if (key.includes('o_proj')) tensors.delete(key)
        })(files)
      },
      'ERR_METHOD_UNSUPPORTED',
      'model.embed_tokens',
    ],
    [
      "PEFT's orientation of a matrix that is not square",
      'llama-keys',
      withTensors((tensors) => {
        for (const part of ['lora_a', 'lora_b']) {
          const tensor = tensors.get(`${Q}.${part}`)!
          tensors.set(`${Q}.${part}`, { ...tensor, shape: tensor.shape.toReversed() })
        }
      }),
      'ERR_TENSOR_SHAPE',
      '[3,16]',
    ],
    [
      'a tensor of something else',
      'llama-keys',
      withTensors((tensors) => tensors.set('model.norm.weight', tensors.get(`${Q}.lora_a`)!)),
      'ERR_TENSOR_UNMATCHED',
      'model.norm.weight',
    ],
    [
      'whole weights of another size',
      'llama-trained-full',
      withTensors((tensors) => {
        const norm = tensors.get('model.layers.1.input_layernorm.weight')!
        tensors.set('model.layers.1.input_layernorm.weight', { ...norm, shape: [1, 16] })
      }),
      'ERR_TENSOR_SHAPE',
      'input_layernorm',
    ],
    [
      'weights of an mlx-lm before safetensors',
      'llama-keys',
      (files) => {
        files.set('adapters.npz', files.get('adapters.safetensors')!)
        files.delete('adapters.safetensors')
      },
      'ERR_SOURCE_UNKNOWN',
      'mx.save_safetensors',
    ],
    [
      'a folder without weights',
      'llama-keys',
      (files) => files.delete('adapters.safetensors'),
      'ERR_SOURCE_UNKNOWN',
      'adapters.safetensors is absent',
    ],
  ])('refuses %s', async (_, name, edit, code, reason) => {
    await expect(importFixture(name, edit)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(reason),
    })
  })

  it('refuses another base, and a full fine-tuning of transposed linears', async () => {
    await expect(
      importFixture('mixtral-switch', () => {}, await baseNamed('llama')),
    ).rejects.toMatchObject({ code: 'ERR_TENSOR_UNMATCHED' })
    await expect(
      importFixture('llama-trained-full', () => {}, await baseNamed('gpt2')),
    ).rejects.toMatchObject({
      code: 'ERR_METHOD_UNSUPPORTED',
      message: expect.stringContaining('transposed'),
    })
  })

  it('is told from PEFT and AdapterHub by its config, whatever else lies there', async () => {
    const { report } = await importFixture('llama-trained', (files) =>
      files.set('README.md', new TextEncoder().encode('trained with PEFT')),
    )
    expect(report).toMatchObject({ format: 'mlx', ignoredFiles: ['README.md'] })
  })
})
