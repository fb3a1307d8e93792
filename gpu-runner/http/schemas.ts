import { isDecimal } from '@graft/sdk/format/decimal.ts'
import { isDigest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { AdapterPull, CountRequest, GenerateRequest } from '@graft/sdk/protocol/runner-api.ts'
import * as z from 'zod'

/** Adapters of one sum: each costs bank pages and a term per site. */
export const MAX_ADAPTERS = 16
/** Choices of one request: each takes a slot. */
export const MAX_CHOICES = 16
export const MAX_STOPS = 16
/** OpenAI's own bound. */
export const MAX_TOP_LOGPROBS = 20
/** A prompt beyond any window here is refused before it is tokenised. */
const MAX_TEXT = 4_000_000

const digest = z.string().refine(isDigest, 'must be "sha256:" and 64 hex digits')
const text = z.string().max(MAX_TEXT)
const tokenIds = z.array(z.int().nonnegative())

const message = z.strictObject({
  role: z.enum(['system', 'user', 'assistant', 'tool']),
  content: text,
})

const prompt = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('text'), text }),
  z.strictObject({
    kind: z.literal('chat'),
    messages: z.array(message).min(1),
    tools: z.array(z.unknown()).optional(),
  }),
  z.strictObject({ kind: z.literal('tokens'), tokenIds: tokenIds.min(1) }),
])

const sampling = z.strictObject({
  temperature: z.number().min(0).max(100),
  topP: z.number().gt(0).max(1),
  topK: z.int().nonnegative(),
  minP: z.number().min(0).max(1),
  presencePenalty: z.number().min(-2).max(2),
  frequencyPenalty: z.number().min(-2).max(2),
  repetitionPenalty: z.number().gt(0).max(10),
  logitBias: z.record(
    z.string().regex(/^\d+$/, 'must be a token id'),
    z.number().min(-100).max(100),
  ),
  seed: z.int(),
  stop: z.array(z.string().min(1).max(1_000)).max(MAX_STOPS),
  logprobs: z.int().min(0).max(MAX_TOP_LOGPROBS).nullable(),
  responseFormat: z
    .discriminatedUnion('type', [
      z.strictObject({ type: z.literal('json_object') }),
      z.strictObject({
        type: z.literal('json_schema'),
        schema: z.record(z.string(), z.unknown()),
      }),
    ])
    .optional(),
})

const pull = z.strictObject({
  digest,
  weight: z.string().refine((w) => isDecimal(w), 'must be a decimal'),
  label: z.string().min(1).max(500),
  capability: z.string().max(10_000).nullable(),
})

const name = z.string().min(1).max(200)

export const generateSchema = z.strictObject({
  requestId: name,
  requestHash: digest,
  tenant: name,
  tenantWeight: z.number().min(0.01).max(100).optional(),
  base: digest,
  adapters: z.array(pull).max(MAX_ADAPTERS),
  prompt,
  sampling,
  maxTokens: z.int().positive(),
  n: z.int().min(1).max(MAX_CHOICES),
  deadline: z.number().nullable(),
  resume: z.array(z.strictObject({ tokenIds })).optional(),
}) as unknown as z.ZodType<GenerateRequest>

export const countSchema = z.strictObject({ prompt }) as unknown as z.ZodType<CountRequest>

export const pullSchema = pull as unknown as z.ZodType<AdapterPull>

export const prefetchSchema = z.array(pull).max(MAX_ADAPTERS) as unknown as z.ZodType<AdapterPull[]>

/** @throws ERR_REQUEST_INVALID naming the first field that is wrong, unknown ones included */
export function parse<T>(schema: z.ZodType<T>, input: unknown): T {
  const result = schema.safeParse(input)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  const where = issue?.path.join('.') || 'body'
  throw new GraftError('ERR_REQUEST_INVALID', `${where}: ${issue?.message ?? 'is not valid'}`)
}
