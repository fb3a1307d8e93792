import type { VerifiedReceipt } from '@graft/sdk/client/verify-receipt.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { formatAdapterReference, parseModelReference } from '@graft/sdk/format/parse-reference.ts'
import { type CliContext, edgeOf, registryOf } from '../context.ts'
import { money, sideBySide } from '../text.ts'

export interface RunFlags {
  chat?: boolean
  compareBase?: boolean
  maxTokens?: number
  temperature?: number
  seed?: number
}

/** The API's own default, 16, would cut most answers short. */
const DEFAULT_MAX_TOKENS = 128

interface Ran {
  model: string
  text: string
  requestId: string
  base: string | null
  adapters: string[]
  /** `length`: the answer was cut at --max-tokens. */
  finish: string | null
  usage: { prompt: number; cached: number; completion: number }
  /** Nano-units. */
  charged: number
  currency: string
  /** Compact JWS, verified. */
  receipt: string
}

/** `graft run <model> <prompt...>`: the answer as it comes, then what it cost, proven. */
export async function runCommand(
  context: CliContext,
  model: string,
  words: string[],
  flags: RunFlags,
): Promise<void> {
  const reference = parseModelReference(model)
  const prompt =
    words.length > 0 ? words.join(' ') : (await context.readStdin()).replace(/\r?\n$/, '')
  if (prompt === '')
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      'the prompt is empty: write it after the model, or send it to stdin',
    )
  const { output } = context
  if (!flags.compareBase) {
    const ran = await ask(context, model, prompt, flags, (text) => output.write(text))
    output.result(ran, () => '\n')
    output.log(summary(ran))
    return
  }
  if (reference.kind === 'base')
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      `--compare-base compares an adapter with its base, and "${model}" is a base`,
    )
  const ref = formatAdapterReference(reference.terms[0]!.reference)
  const { base } = await registryOf(context).resolve({ ref })
  const [ran, plain] = await Promise.all([
    ask(context, model, prompt, flags),
    ask(context, base.name, prompt, flags),
  ])
  output.result({ ...ran, compare: plain }, () =>
    sideBySide(
      { title: model, text: ran.text },
      { title: base.name, text: plain.text },
      output.columns,
    ),
  )
  output.log(`${model}: ${summary(ran)}`)
  output.log(`${base.name}: ${summary(plain)}`)
}

async function ask(
  context: CliContext,
  model: string,
  prompt: string,
  flags: RunFlags,
  onText: (text: string) => void = () => {},
): Promise<Ran> {
  const client = edgeOf(context)
  const shared = {
    model,
    stream: true as const,
    max_tokens: flags.maxTokens ?? DEFAULT_MAX_TOKENS,
    ...(flags.temperature === undefined ? {} : { temperature: flags.temperature }),
    ...(flags.seed === undefined ? {} : { seed: flags.seed }),
  }
  const call = { signal: context.signal }
  let text = ''
  let finish: string | null = null
  const add = (piece: string | undefined, reason: string | null | undefined): void => {
    text += piece ?? ''
    finish = reason ?? finish
    if (piece) onText(piece)
  }
  if (flags.chat) {
    const messages = [{ role: 'user' as const, content: prompt }]
    const stream = await client.chat.create({ ...shared, messages }, call)
    for await (const { choices } of stream)
      add(choices[0]?.delta.content, choices[0]?.finish_reason)
    return ran(model, text, finish, stream, await stream.proof, await stream.receipt)
  }
  const stream = await client.completions.create({ ...shared, prompt }, call)
  for await (const { choices } of stream) add(choices[0]?.text, choices[0]?.finish_reason)
  return ran(model, text, finish, stream, await stream.proof, await stream.receipt)
}

const ran = (
  model: string,
  text: string,
  finish: string | null,
  stream: { requestId: string; base: string | null; adapters: string[] },
  { receipt }: VerifiedReceipt,
  compact: string,
): Ran => ({
  model,
  text,
  finish,
  requestId: stream.requestId,
  base: stream.base,
  adapters: stream.adapters,
  usage: receipt.billed,
  charged: receipt.charged,
  currency: receipt.currency,
  receipt: compact,
})

const summary = ({ usage, charged, currency, requestId, finish }: Ran): string =>
  `${usage.prompt} + ${usage.completion} tokens, ${money(charged, currency)}, receipt verified (${requestId})${finish === 'length' ? '; cut at --max-tokens' : ''}`
