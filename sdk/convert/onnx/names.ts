import { GraftError } from '@graft/sdk/format/errors.ts'

/** PEFT's prefix, which Olive drops where the class inside it is called `model`. */
const PREFIX = 'base_model.model.'

/** Name of the graph input that Olive gives a factor of a module (olive convert-adapters). */
export const inputOf = (site: string, part: 'A' | 'B'): string =>
  `${site.startsWith('model.') ? '' : PREFIX}${site}.lora_${part}.weight`

/** @throws ERR_METHOD_UNSUPPORTED, ERR_TENSOR_UNMATCHED for inputs that are no factor of a linear layer */
export function moduleOf(input: string): { path: string; part: 'A' | 'B' } {
  const [, path, part] = /^(?:base_model\.model\.)?(.+)\.lora_([AB])\.weight$/.exec(input) ?? []
  if (path !== undefined) return { path, part: part as 'A' | 'B' }
  const refuse = (what: string): never => {
    throw new GraftError('ERR_METHOD_UNSUPPORTED', `.onnx_adapter: ${input} is ${what}`)
  }
  if (/\.quant\./.test(input))
    refuse('quantised (--quantize_int4), which is not imported; convert again without')
  if (/lora_magnitude_vector/.test(input)) refuse("DoRA's magnitude; import the PEFT folder")
  if (/lora_embedding_[AB]$/.test(input))
    refuse('LoRA of an embedding, whose scale Olive leaves out; import the PEFT folder')
  if (/\.lora_B\.bias$/.test(input)) refuse('a bias of the update; import the PEFT folder')
  throw new GraftError(
    'ERR_TENSOR_UNMATCHED',
    `.onnx_adapter: graph input ${input} is not named as Olive does, <module path>.lora_A.weight and .lora_B.weight; import the PEFT folder that it was made of`,
  )
}
