import type { BaseIdentity } from '@graft/sdk/format/manifest.ts'

type Value = string | number | boolean | null | readonly Value[] | { readonly [key: string]: Value }
export type ConfigFields = { readonly [key: string]: Value }

const TASKS: readonly [RegExp, string][] = [
  [/(?:ForCausalLM|LMHeadModel)$/, 'CAUSAL_LM'],
  [/ForSequenceClassification$/, 'SEQ_CLS'],
  [/ForTokenClassification$/, 'TOKEN_CLS'],
  [/ForQuestionAnswering$/, 'QUESTION_ANS'],
  [/ForConditionalGeneration$/, 'SEQ_2_SEQ_LM'],
]

const sorted = (value: Value): Value => {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(sorted)
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, item]) => [key, sorted(item)]),
  )
}

/** adapter_config.json as PEFT writes it: keys sorted, indented by 2. */
export function configBytes(type: string, base: BaseIdentity, fields: ConfigFields): Uint8Array {
  const config = {
    peft_type: type,
    task_type: TASKS.find(([pattern]) => pattern.test(base.architecture))?.[1] ?? null,
    auto_mapping: null,
    base_model_name_or_path: base.name,
    revision: null,
    inference_mode: true,
    ...fields,
  }
  return new TextEncoder().encode(JSON.stringify(sorted(config), null, 2))
}
