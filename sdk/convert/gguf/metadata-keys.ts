import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { invalid } from './cursor.ts'
import type { GgufKind, GgufValue } from './gguf-value.ts'

type Metadata = ReadonlyMap<string, GgufValue>

/** What people and catalogues read (gguf-py's Keys.General), and what llama-server does around a prompt. */
const INERT =
  /^(?:general\.(?:name|author|version|organization|finetune|basename|description|quantized_by|size_label|license(?:\.name|\.link)?|url|doi|uuid|repo_url|source\.(?:url|doi|uuid|repo_url|huggingface\.repository)|tags|languages|file_type|quantization_version|alignment|(?:base_model|dataset)\.(?:count|\d+\.(?:name|author|version|organization|description|url|doi|uuid|repo_url)))|adapter\.lora\.(?:task_name|prompt_prefix))$/

const READ = new Set(['general.architecture', 'general.type', 'adapter.type', 'adapter.lora.alpha'])

const unknownSource = (message: string): GraftError => new GraftError('ERR_SOURCE_UNKNOWN', message)

/** @returns null when the key is absent */
function valueAt(metadata: Metadata, key: string, kind: GgufKind): unknown {
  const row = metadata.get(key)
  if (row === undefined) return null
  if (row.kind !== kind) throw invalid(expected(key, `a ${kind}`, row.kind))
  return row.value
}

const textOf = (metadata: Metadata, key: string): string | null =>
  valueAt(metadata, key, 'string') as string | null

/** What a GGUF that is no adapter is, for people. */
function describe(metadata: Metadata, tensors: number): string {
  const type = textOf(metadata, 'general.type')
  const architecture = textOf(metadata, 'general.architecture')
  const shards = metadata.get('split.count')?.value
  if (type !== null && type !== 'model') return `a GGUF of type ${type}`
  const of = architecture === null ? '' : ` of ${architecture}`
  if (typeof shards === 'number' && shards > 1)
    return `one of ${shards} shards of a GGUF model${of}`
  if (tensors === 0 && metadata.has('tokenizer.ggml.tokens')) return `a GGUF vocabulary${of}`
  return tensors === 0 ? `a GGUF${of} without tensors` : `a GGUF model${of}`
}

/**
 * Refuses a GGUF that is not a LoRA adapter, saying what it is.
 * @throws ERR_SOURCE_UNKNOWN, ERR_METHOD_UNSUPPORTED
 */
export function checkIsAdapter(path: string, metadata: Metadata, tensors: number): void {
  const type = textOf(metadata, 'general.type')
  if (type !== 'adapter')
    throw unknownSource(
      `${path} is ${describe(metadata, tensors)}, not an adapter: its general.type must be "adapter"`,
    )
  const kind = textOf(metadata, 'adapter.type')
  if (kind !== 'lora')
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      expected(`${path}: adapter.type`, '"lora"', kind),
    )
  if (metadata.has('adapter.alora.invocation_tokens'))
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `${path}: adapter.alora.invocation_tokens makes the adapter act only after these tokens (aLoRA), which is not supported`,
    )
}

/** Every key is understood or refused. @returns the keys that do not reach inference @throws ERR_CONFIG_UNKNOWN_KEY */
export function checkKeys(path: string, metadata: Metadata): string[] {
  const keys = [...metadata.keys()].filter((key) => !READ.has(key))
  const unknown = keys.find((key) => !INERT.test(key))
  if (unknown === undefined) return keys
  throw new GraftError(
    'ERR_CONFIG_UNKNOWN_KEY',
    `${path}: key ${unknown} is not one that llama.cpp's converter writes into an adapter; remove it, or convert the adapter again`,
  )
}

export function architectureKey(path: string, metadata: Metadata): string {
  const name = textOf(metadata, 'general.architecture')
  if (name !== null) return name
  throw invalid(expected(`${path}: general.architecture`, 'present', name))
}

/** Absent or 0, the update is not scaled by alpha / rank at all (llama-adapter.h, get_scale). */
export function alphaOf(metadata: Metadata): number {
  const alpha = valueAt(metadata, 'adapter.lora.alpha', 'float32') as number | null
  if (alpha === null) return 0
  if (Number.isFinite(alpha)) return alpha
  throw invalid(expected('adapter.lora.alpha', 'a finite number', String(alpha)))
}
