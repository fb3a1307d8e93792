import { GraftError } from '@graft/sdk/format/errors.ts'
import type { FinishReason } from '@graft/sdk/protocol/receipts.ts'
import type { Frame, Sampling } from '@graft/sdk/protocol/runner-api.ts'
import { adjustLogits } from '../sampling/adjust-logits.ts'
import type { Constraint } from '../sampling/grammar/constraints.ts'
import { maskLogits } from '../sampling/grammar/mask-logits.ts'
import { type TokenLogprobs, tokenLogprobs } from '../sampling/logprobs.ts'
import { randomUnit } from '../sampling/random.ts'
import { sampleAllowed, sampleToken } from '../sampling/sample.ts'
import { createStopMatcher } from '../sampling/stop-matcher.ts'
import type { TextCodec } from '../tokenizer/tokenizer.ts'

export interface ChoiceOptions {
  codec: TextCodec
  promptIds: readonly number[]
  /** Tokens of this choice that another runner sent already. */
  resumed: readonly number[]
  sampling: Sampling
  choice: number
  /** Most tokens of the answer, resumed ones included. */
  maxTokens: number
  /** The form that the answer must keep; it has read the resumed tokens. @default any text */
  constraint?: Constraint | null
}

export interface ChoiceStep {
  frames: Frame[]
  /** Fed to the engine next; null when the choice is over. */
  next: number | null
}

/** One choice of an answer: logits in, frames out. Deterministic in its options and the logits. */
export interface Choice {
  /** A choice that resumed tokens already ended: its frames, before anything runs. */
  readonly ended: Frame[] | null
  /** Tokens made here; resumed ones do not count. */
  readonly completion: number
  readonly reason: FinishReason | null
  /** What step() has to wait for: the constraint's mask; null when there is nothing. */
  waits(): Promise<void> | null
  /** [vocab] logits of the newest position. */
  step(logits: Float32Array): ChoiceStep
  /** Frees what the choice holds. */
  close(): void
}

export function createChoice(options: ChoiceOptions): Choice {
  const { codec, promptIds, resumed, sampling, choice, maxTokens, constraint = null } = options
  const prompt = new Set(promptIds)
  const output = new Map<number, number>()
  const stream = codec.stream(promptIds)
  const stops = createStopMatcher(sampling.stop)
  let position = 0
  let completion = 0
  let reason: FinishReason | null = null

  /** Takes a token into the history; the text it completes and why the choice ends with it, if it does. */
  function take(id: number): { text: string; finish: Frame | null } {
    position++
    output.set(id, (output.get(id) ?? 0) + 1)
    const end = (why: FinishReason, stop: string | null): Frame => {
      reason = why
      return { type: 'finish', choice, reason: why, stop }
    }
    const eos = codec.eosTokenIds.has(id)
    const pushed = stops.push(eos ? '' : stream.push(id))
    if (pushed.stop !== null) return { text: pushed.text, finish: end('stop', pushed.stop) }
    if (!eos && position < maxTokens) return { text: pushed.text, finish: null }
    // The rest may complete a stop string after all.
    const last = stops.push(stream.flush())
    const text = pushed.text + last.text + (last.stop === null ? stops.flush() : '')
    return { text, finish: end(eos || last.stop !== null ? 'stop' : 'length', last.stop) }
  }

  const describe = ({ id, logprob, top }: TokenLogprobs) => ({
    id,
    text: codec.tokenText(id),
    logprob,
    top: top.map((row) => ({ ...row, text: codec.tokenText(row.id) })),
  })

  let ended: Frame[] | null = null
  for (const id of resumed) {
    // Text of resumed tokens was sent; only the state that it leaves behind counts.
    const { finish } = take(id)
    if (finish) {
      ended = [finish]
      break
    }
  }
  if (!ended && maxTokens <= position) {
    reason = 'length'
    ended = [{ type: 'finish', choice, reason, stop: null }]
  }

  /** The next token, or null when the form leaves none and the answer is complete. */
  function pick(logits: Float32Array): number | null {
    const adjusted = adjustLogits(logits, sampling, { prompt, output })
    const mask = constraint?.mask ?? null
    // Logprobs are read from the logits as they came.
    const masked = mask && adjusted === logits ? logits.slice() : adjusted
    const unit = randomUnit(sampling.seed, choice, position)
    if (!constraint || !mask) return sampleToken(masked, sampling, unit)
    const left = maskLogits(masked, mask)
    const id = left ? sampleAllowed(masked, (one) => constraint.allows(one), sampling, unit) : null
    if (id === null && !constraint.isWhole())
      throw new GraftError(
        'ERR_REQUEST_INVALID',
        'response_format: no token of this base can continue the answer; its vocabulary lacks characters that the form needs',
      )
    return id
  }

  function advance(logits: Float32Array): ChoiceStep {
    const id = pick(logits)
    if (id === null) {
      reason = 'stop'
      return { frames: [{ type: 'finish', choice, reason, stop: null }], next: null }
    }
    const { logprobs } = sampling
    const facts = logprobs === null ? null : tokenLogprobs(logits, id, logprobs)
    const { text, finish } = take(id)
    completion++
    const tokens: Frame = {
      type: 'tokens',
      choice,
      tokenIds: [id],
      text,
      ...(facts ? { logprobs: [describe(facts)] } : {}),
    }
    if (finish) return { frames: [tokens, finish], next: null }
    constraint?.accept(id)
    return { frames: [tokens], next: id }
  }

  return {
    ended,
    get completion() {
      return completion
    },
    get reason() {
      return reason
    },
    waits: () => (constraint && !constraint.mask ? constraint.ready() : null),
    step: advance,
    close: () => constraint?.close(),
  }
}
