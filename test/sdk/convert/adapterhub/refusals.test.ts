import { exportAdapter } from '@graft/convert/export-adapter.ts'
import { readSafetensors, type Tensor, writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import { describe, expect, it } from 'vitest'
import { withConfig } from '../fixtures.ts'
import { baseOf, importFixture, REFUSED } from './fixtures.ts'

type Files = Map<string, Uint8Array>

const withTensors =
  (edit: (tensors: Map<string, Tensor>) => void, file = 'adapter.safetensors') =>
  (files: Files): void => {
    const { tensors } = readSafetensors(files.get(file)!)
    edit(tensors)
    files.set(file, writeSafetensors(tensors))
  }

const COPY =
  'model.layers.1.self_attn.prefix_tuning.pool.prefix_tunings.task.self_prefix.control_trans'

describe('what AdapterHub can save and no operation holds', () => {
  it.each(Object.entries(REFUSED))('%s is refused by name: %s', async (name, reason) => {
    await expect(importFixture(name)).rejects.toMatchObject({
      code: 'ERR_METHOD_UNSUPPORTED',
      message: expect.stringContaining(reason),
    })
  })

  it.each<[string, string, (files: Files) => void, string, string]>([
    [
      'a DoRA whose alpha is not r',
      'plain-dora',
      withConfig({ alpha: 4 }, 'config'),
      'ERR_METHOD_UNSUPPORTED',
      'alpha = r',
    ],
    [
      'an IA3 with another alpha',
      'llama-ia3',
      withConfig({ alpha: 2 }, 'config'),
      'ERR_METHOD_UNSUPPORTED',
      'alpha must be 1',
    ],
    [
      'another composition',
      'llama-lora',
      withConfig({ composition_mode: 'mean' }, 'config'),
      'ERR_CONFIG_INVALID',
      'composition_mode',
    ],
    [
      'an unknown key',
      'llama-lora',
      withConfig({ use_rslora: true }, 'config'),
      'ERR_CONFIG_UNKNOWN_KEY',
      '"use_rslora"',
    ],
    [
      'a rank that the tensors have not',
      'llama-lora',
      withConfig({ r: 3 }, 'config'),
      'ERR_TENSOR_SHAPE',
      '[3,16]',
    ],
    [
      'matrices that the config leaves out',
      'llama-lora',
      withConfig({ attn_matrices: ['q'] }, 'config'),
      'ERR_TENSOR_UNMATCHED',
      'k_proj',
    ],
    [
      'matrices that the file leaves out',
      'llama-union',
      withTensors((tensors) => tensors.delete('model.layers.1.self_attn.q_proj.loras.task.lora_A')),
      'ERR_TENSOR_MISSING',
      'model.layers.1.self_attn.q_proj.loras.task.lora_A',
    ],
    [
      'a name that the keys have not',
      'llama-lora',
      withConfig({ name: 'other' }),
      'ERR_TENSOR_MISSING',
      'loras.other.lora_A',
    ],
    [
      'a prefix of another length',
      'llama-prefix',
      withConfig({ prefix_length: 4 }, 'config'),
      'ERR_TENSOR_SHAPE',
      '4 tokens',
    ],
    [
      'a gated prefix',
      'llama-prefix',
      withConfig({ use_gating: true }, 'config'),
      'ERR_METHOD_UNSUPPORTED',
      'use_gating',
    ],
    [
      'copies of a prefix that differ',
      'llama-prefix',
      withTensors((tensors) => {
        const copy = tensors.get(COPY)!
        tensors.set(COPY, {
          ...copy,
          data: copy.data.map((byte, i) => (i === 0 ? byte ^ 1 : byte)),
        })
      }),
      'ERR_TENSOR_UNMATCHED',
      'must hold the same values',
    ],
    [
      'post_add without a norm',
      'qwen2-double-seq-bn',
      withConfig({ residual_before_ln: 'post_add' }, 'config'),
      'ERR_METHOD_UNSUPPORTED',
      'post_add',
    ],
    [
      'a hooked block without its residual stream',
      'qwen2-double-seq-bn',
      withConfig({ original_ln_after: false }, 'config'),
      'ERR_METHOD_UNSUPPORTED',
      'original_ln_after',
    ],
    [
      'an interface of another model',
      'qwen2-lora',
      (files) => {
        const text = new TextDecoder().decode(files.get('adapter_interface.json'))
        files.set('adapter_interface.json', new TextEncoder().encode(text.replace('qwen2', 'phi')))
      },
      'ERR_BASE_MISMATCH',
      'phi',
    ],
    [
      'a head that the base has not',
      'llama-lora-head',
      withTensors((tensors) => {
        tensors.set('score.weight', tensors.get('lm_head.weight')!)
        tensors.delete('lm_head.weight')
      }, 'model_head.safetensors'),
      'ERR_METHOD_UNSUPPORTED',
      'score.weight',
    ],
    [
      'weights as a pickle',
      'llama-lora',
      (files) => {
        files.delete('adapter.safetensors')
        files.set('pytorch_adapter.bin', Uint8Array.of(0x50, 0x4b, 3, 4))
      },
      'ERR_PICKLE_REFUSED',
      'use_safetensors=True',
    ],
    [
      'a union of an old LoRA, which the library itself loads with another scale than it trained',
      'llama-union',
      withConfig({ version: 'adapters.1.0.1' }),
      'ERR_METHOD_UNSUPPORTED',
      'Set alpha to r',
    ],
    [
      'a union of nothing',
      'llama-union',
      withConfig({ configs: [] }, 'config'),
      'ERR_CONFIG_INVALID',
      'configs',
    ],
  ])('refuses %s', async (_, name, edit, code, reason) => {
    await expect(importFixture(name, edit)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(reason),
    })
  })

  it('refuses an adapter of another family of models, and a prefix without the base config', async () => {
    await expect(
      importFixture('bert-lora', () => {}, await baseOf('roberta-ia3')),
    ).rejects.toMatchObject({ code: 'ERR_BASE_MISMATCH' })
    const { config: _, ...base } = await baseOf('llama-prefix')
    await expect(importFixture('llama-prefix', () => {}, base as never)).rejects.toMatchObject({
      code: 'ERR_REQUEST_INVALID',
      message: expect.stringContaining('config.json'),
    })
  })

  it('refuses key maps that do not lead back', async () => {
    const { manifest, safetensors } = await importFixture('gpt2-lora')
    const origin = manifest.origin!
    const withTransform = (transform: string) => {
      const keyMap = origin.keyMap.map((row) =>
        row.transform.startsWith('spread') ? { ...row, transform } : row,
      )
      return exportAdapter({
        manifest: { ...manifest, origin: { ...origin, keyMap } },
        safetensors,
      })
    }
    await expect(withTransform('spread 3,0,3')).rejects.toThrow('spread 3,0,3')
    await expect(withTransform('spread 5,0,2')).rejects.toThrow('spread 5,0,2')
    await expect(withTransform('copy nothing')).rejects.toThrow('copy nothing')
  })
})
