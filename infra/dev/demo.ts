import { createInferenceClient } from '@graft/sdk/client/inference-client.ts'
import { createLedgerClient } from '@graft/sdk/client/ledger-client.ts'
import { verifyReceipt } from '@graft/sdk/client/verify-receipt.ts'
import type { Balance } from '@graft/sdk/protocol/ledger.ts'
import type { Receipt, ReceiptKeys, RunnerReceipt } from '@graft/sdk/protocol/receipts.ts'
import type { StepRecord } from '@graft/sdk/protocol/runner-api.ts'
import { type BookCheck, checkBook } from './check-books.ts'
import { baseCalls, type DemoCall, TENANTS } from './demo-calls.ts'
import { progress } from './progress.ts'

export interface Answer {
  call: DemoCall
  text: string
  requestId: string
  receipt: Receipt
  runner: RunnerReceipt
  firstTokenMs: number
}

export interface DemoReport {
  answers: Answer[]
  /** The base's answer by prompt. */
  baseText: Map<string, string>
  /** A step of the engine that held rows of three tenants' adapters and of the base; null when none did. */
  mixedStep: StepRecord | null
  balances: Balance[]
  books: BookCheck[]
  problems: string[]
}

const MAX_TOKENS = 64
/** Answers are a few tokens long: on a busy machine the first have ended before the last have come. */
const MOST_ROUNDS = 5

async function ask(
  edgeUrl: string,
  token: string,
  keys: ReceiptKeys,
  call: DemoCall,
): Promise<Answer> {
  const client = createInferenceClient({ url: edgeUrl, token })
  const begin = performance.now()
  const stream = await client.completions.create({
    model: call.model,
    prompt: call.prompt,
    max_tokens: MAX_TOKENS,
    temperature: 0,
    stream: true,
  })
  let text = ''
  let firstTokenMs = Number.NaN
  for await (const chunk of stream) {
    const piece = chunk.choices[0]?.text ?? ''
    if (piece && Number.isNaN(firstTokenMs)) firstTokenMs = performance.now() - begin
    text += piece
  }
  const verified = await verifyReceipt(await stream.receipt, keys)
  return { call, text, requestId: stream.requestId, firstTokenMs, ...verified }
}

/**
 * Every sample adapter and the base answer at once, for three tenants; then receipts, balances and the engine's own
 * step log are checked. Nothing here knows an answer: expectations come from the samples' held-out cases.
 */
export async function runDemo(deps: {
  edgeUrl: string
  tokens: Record<string, string>
  baseName: string
  calls: DemoCall[]
  steps: () => Promise<StepRecord[]>
}): Promise<DemoReport> {
  const { edgeUrl, tokens } = deps
  const keys = (await (await fetch(`${edgeUrl}/.well-known/graft-keys.json`)).json()) as ReceiptKeys
  const send = (call: DemoCall) => ask(edgeUrl, tokens[call.tenant]!, keys, call)

  progress(`first answers: the runner pulls, checks and admits ${deps.calls.length} adapters`)
  await Promise.all(deps.calls.map(send))
  const base = baseCalls(deps.calls, deps.baseName)
  let answers: Answer[] = []
  let baseAnswers: Answer[] = []
  let mixedStep: StepRecord | null = null
  for (let round = 1; round <= MOST_ROUNDS && mixedStep === null; round++) {
    progress(`all adapters and the base in one batch${round > 1 ? ', once more' : ''}`)
    ;[answers, baseAnswers] = await Promise.all([
      Promise.all(deps.calls.map(send)),
      Promise.all(base.map(send)),
    ])
    mixedStep = findMixedStep(await deps.steps())
  }

  const problems: string[] = []
  for (const { call, text } of answers)
    if (call.expected !== null && text !== call.expected)
      problems.push(
        `${call.model} answered ${JSON.stringify(text)}, not ${JSON.stringify(call.expected)}`,
      )
  for (const answer of [...answers, ...baseAnswers]) problems.push(...receiptProblems(answer))

  if (!mixedStep) problems.push("no step of the engine held three tenants' adapters and a base row")

  const balances: Balance[] = []
  const books: BookCheck[] = []
  for (const tenant of TENANTS) {
    const ledger = createLedgerClient({ url: edgeUrl, token: tokens[tenant]! })
    const balance = await ledger.balance()
    const book = await checkBook(balance, await allEntries(ledger))
    balances.push(balance)
    books.push(book)
    problems.push(...book.problems.map((problem) => `book of ${tenant}: ${problem}`))
  }
  const baseText = new Map(baseAnswers.map(({ call, text }) => [call.prompt, text]))
  return { answers, baseText, mixedStep, balances, books, problems }
}

function receiptProblems({ call, receipt, runner, requestId }: Answer): string[] {
  const problems: string[] = []
  const expect = (ok: boolean, what: string) => {
    if (!ok) problems.push(`receipt of ${call.model} for ${call.tenant}: ${what}`)
  }
  expect(receipt.requestId === requestId, `is for ${receipt.requestId}, not ${requestId}`)
  expect(receipt.tenant === call.tenant, `names the tenant ${receipt.tenant}`)
  expect(receipt.outcome === 'complete', `says ${receipt.outcome}`)
  expect(
    runner.adapters.length === (call.sample ? 1 : 0),
    `names ${runner.adapters.length} adapters`,
  )
  return problems
}

/**
 * The fullest step whose decode rows, which run through the graph together, hold three tenants' adapters and a row of
 * the base alone. Prompts being read in the same step do not count: each runs by itself.
 */
export function findMixedStep(steps: StepRecord[]): StepRecord | null {
  const mixed = steps.filter(({ rows }) => {
    const decoding = rows.filter((row) => row.tokens === 1)
    const tenants = decoding.filter((row) => row.adapters.length > 0).map((row) => row.tenant)
    return new Set(tenants).size >= 3 && decoding.some((row) => row.adapters.length === 0)
  })
  return mixed.toSorted((a, b) => b.rows.length - a.rows.length)[0] ?? null
}

async function allEntries(ledger: ReturnType<typeof createLedgerClient>) {
  const entries = []
  for (;;) {
    const page = await ledger.entries({ after: entries.at(-1)?.id ?? 0 })
    if (page.entries.length === 0) return entries
    entries.push(...page.entries)
  }
}
