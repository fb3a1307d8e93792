import type { Digest } from '../format/digest.ts'
import type { ErrorCode } from '../format/errors.ts'
import type { OperationKind } from '../format/operations.ts'
import type { FinishReason } from './receipts.ts'

/*
 * The runner's HTTP surface, spoken by the edge. Auth: Bearer fleet token of the edge (typ graft-fleet+jwt).
 *
 *   GET  /healthz                -> 200 once the engine is ready
 *   GET  /metrics                Prometheus text
 *   GET  /v1/status              -> RunnerStatus
 *   POST /v1/count               CountRequest -> { tokens }
 *   POST /v1/generate            GenerateRequest -> application/x-ndjson, one Frame a line
 *   POST /v1/adapters/prefetch   AdapterPull[] -> {}
 *   GET  /v1/merges              -> MergeStatus
 *   POST /v1/merges              AdapterPull -> MergedForm, once new answers of it run merged
 *   DELETE /v1/merges/:digest    -> {}, once the last answer that ran merged has ended
 *   GET  /v1/steps?after=        -> { steps: StepRecord[] }  (the engine's step log, a ring of the last 10,000)
 * Closing the connection of /v1/generate cancels the request within a step.
 */

export interface ChatMessage {
  role: 'system' | 'user' | 'assistant' | 'tool'
  content: string
}

export type PromptInput =
  | { kind: 'text'; text: string }
  | { kind: 'chat'; messages: ChatMessage[]; tools?: unknown[] }
  | { kind: 'tokens'; tokenIds: number[] }

/** What an answer must be besides text. */
export type ResponseFormat =
  | { type: 'json_object' }
  /** JSON that a JSON Schema (draft 2020-12) holds for. */
  | { type: 'json_schema'; schema: Record<string, unknown> }

export interface Sampling {
  /** 0 = greedy. */
  temperature: number
  topP: number
  /** 0 = all. */
  topK: number
  minP: number
  presencePenalty: number
  frequencyPenalty: number
  repetitionPenalty: number
  logitBias: Record<string, number>
  /** Random numbers are a function of (seed, choice, position). */
  seed: number
  stop: string[]
  /** Top logprobs per token; null = none. */
  logprobs: number | null
  /** Only tokens that keep the answer in this form are drawn; absent = any text. */
  responseFormat?: ResponseFormat
}

/** How a runner gets an adapter it does not hold: the manifest's digest and the right to pull its bytes. */
export interface AdapterPull {
  digest: Digest
  weight: string
  /** `@acme/sql@1.2.0`, for logs. */
  label: string
  capability: string | null
}

export interface GenerateRequest {
  requestId: string
  requestHash: Digest
  tenant: string
  /** The tenant's share of the runner beside others. @default 1 */
  tenantWeight?: number
  base: Digest
  adapters: AdapterPull[]
  prompt: PromptInput
  sampling: Sampling
  maxTokens: number
  n: number
  /** Unix milliseconds after which the answer is of no use; null = none. */
  deadline: number | null
  /** Continue an answer begun elsewhere: token ids already sent, per choice. */
  resume?: { tokenIds: number[] }[]
}

/** Lines of /v1/generate, in order: accepted, tokens*, finish per choice, done | error. */
export type Frame =
  | { type: 'accepted'; promptTokens: number; cachedTokens: number }
  | {
      type: 'tokens'
      choice: number
      tokenIds: number[]
      /** Text that is complete; a split character waits for its rest. */
      text: string
      logprobs?: {
        id: number
        text: string
        logprob: number
        top: { id: number; text: string; logprob: number }[]
      }[]
    }
  | { type: 'finish'; choice: number; reason: FinishReason; stop: string | null }
  | {
      type: 'done'
      tokens: { prompt: number; cached: number; completion: number }
      /** Compact JWS of RunnerReceipt. */
      receipt: string
    }
  | { type: 'error'; code: ErrorCode; message: string; retryable: boolean }

export interface CountRequest {
  prompt: PromptInput
}

export interface AdapterResidency {
  digest: Digest
  tier: 'bank' | 'host' | 'disk'
  bytes: number
}

/** An adapter whose weights are part of a second copy of the base. */
export interface MergedForm {
  digest: Digest
  /** Memory that it is counted with. */
  bytes: number
  /** Milliseconds that building and proving it took. */
  buildMs: number
}

export interface MergeStatus {
  /** The runner also merges by itself, by share of traffic. */
  byTraffic: boolean
  /** Forms that still fit its memory for them. */
  room: number
  /** Adapters whose new answers run merged. */
  forms: MergedForm[]
  /** Not merged by traffic for a while: refused, or unmerged on request. */
  barred: Digest[]
}

export interface RunnerStatus {
  id: string
  build: string
  base: { name: string; digest: Digest }
  operations: OperationKind[]
  maxPositions: number
  slots: number
  running: number
  waiting: number
  tokensPerSecond: number
  residency: AdapterResidency[]
  /** The key that signs this runner's receipts. */
  key: JsonWebKey
}

/** Runner -> edge, every two seconds. */
export interface Heartbeat {
  url: string
  status: RunnerStatus
  draining: boolean
}
export interface HeartbeatAnswer {
  /** Seconds until the edge forgets a silent runner. */
  ttl: number
}

export interface StepRecord {
  step: number
  /** Unix milliseconds. */
  at: number
  /** Milliseconds the graph ran. */
  ms: number
  rows: { requestId: string; tenant: string; adapters: Digest[]; tokens: number }[]
}
