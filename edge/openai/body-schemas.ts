import * as z from 'zod'

/** OpenAI's own bound on how many stop strings one call may name. */
const MAX_STOP_STRINGS = 4
const MAX_CHOICES = 16
const MAX_TOP_LOGPROBS = 20

/** OpenAI clients write null where they mean "not given". */
const optional = <T extends z.ZodType>(schema: T) => schema.nullish()

const tokens = z.int().min(1)
const stop = z.union([z.string().min(1), z.array(z.string().min(1)).max(MAX_STOP_STRINGS)])

const shared = {
  model: z.string().min(1),
  max_tokens: optional(tokens),
  temperature: optional(z.number().min(0).max(2)),
  top_p: optional(z.number().gt(0).max(1)),
  n: optional(z.int().min(1).max(MAX_CHOICES)),
  stop: optional(stop),
  seed: optional(z.int().min(0)),
  stream: optional(z.boolean()),
  stream_options: optional(z.strictObject({ include_usage: optional(z.boolean()) })),
  presence_penalty: optional(z.number().min(-2).max(2)),
  frequency_penalty: optional(z.number().min(-2).max(2)),
  logit_bias: optional(z.record(z.string().regex(/^\d+$/), z.number().min(-100).max(100))),
  user: optional(z.string()),
  // extensions that vLLM's users know by these names
  top_k: optional(z.int().min(-1)),
  min_p: optional(z.number().min(0).max(1)),
  repetition_penalty: optional(z.number().gt(0).max(2)),
}

/** What of a schema a runner keeps is the runner's to say; it refuses the rest by name. */
const responseFormat = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('text') }),
  z.strictObject({ type: z.literal('json_object') }),
  z.strictObject({
    type: z.literal('json_schema'),
    json_schema: z.strictObject({
      name: z.string().regex(/^[\w-]{1,64}$/),
      description: optional(z.string()),
      schema: z.record(z.string(), z.unknown()),
      strict: optional(z.boolean()),
    }),
  }),
])

const content = z.union([
  z.string(),
  z.array(z.strictObject({ type: z.literal('text'), text: z.string() })),
])

export const chatBody = z.strictObject({
  ...shared,
  messages: z
    .array(
      z.strictObject({
        role: z.enum(['system', 'developer', 'user', 'assistant', 'tool']),
        content,
      }),
    )
    .min(1),
  max_completion_tokens: optional(tokens),
  logprobs: optional(z.boolean()),
  top_logprobs: optional(z.int().min(0).max(MAX_TOP_LOGPROBS)),
  tools: optional(z.array(z.looseObject({ type: z.literal('function') }))),
  tool_choice: optional(z.enum(['auto', 'none'])),
  response_format: optional(responseFormat),
})

export const completionBody = z.strictObject({
  ...shared,
  prompt: z.union([z.string(), z.array(z.string()).length(1), z.array(z.int().min(0)).min(1)]),
  logprobs: optional(z.int().min(0).max(MAX_TOP_LOGPROBS)),
  echo: optional(z.literal(false)),
  best_of: optional(z.literal(1)),
  suffix: optional(z.literal('')),
})

export type ChatBody = z.infer<typeof chatBody>
export type CompletionBody = z.infer<typeof completionBody>
