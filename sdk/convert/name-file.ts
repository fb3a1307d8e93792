/** Tensor names that tell whose weights a safetensors file holds, for tools that keep the rest in a config beside it. */
const TENSORS: readonly [RegExp, string, string][] = [
  [/"base_model\.(?:model\.)?[^"]+"|"prompt_embeddings"/, "PEFT's", 'adapter_config.json'],
  [/"[^"]+\.(?:adapters|loras|prefix_tunings)\.[^"]+"/, "AdapterHub's", 'adapter_config.json'],
  [/"[^"]+\.lora_[ab]"/, "MLX'", 'adapter_config.json'],
]

/**
 * What a file is that is no adapter by itself, in words and with the way out; null when it is nothing known.
 * @param head its first bytes
 */
export function nameFile(path: string, head: Uint8Array): string | null {
  const text = new TextDecoder().decode(head)
  if (text.startsWith('version https://git-lfs'))
    return `${path} is a Git LFS pointer, not the weights; fetch them with git lfs pull`
  if (head[8] !== 0x7b) return null
  const found = TENSORS.find(([pattern]) => pattern.test(text))
  if (found) {
    const [, tool, config] = found
    return `${path} holds ${tool} tensors without ${config}, which tells their scale; give the folder of both`
  }
  const names = [...text.matchAll(/"([^"]+)":\{"dtype"/g)].slice(0, 3).map(([, name]) => name)
  const what =
    names.length > 0
      ? `whose tensors are of no adapter (${names.join(', ')}, ...)`
      : 'without tensors'
  return `${path} is a safetensors file ${what}; give the folder or the file that the training tool saved`
}
