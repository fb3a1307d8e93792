import { setTimeout as sleep } from 'node:timers/promises'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { mulberry32 } from '../../random.ts'
import { zipf } from '../tiers/zipf.ts'
import type { Outcome, RunnerCaller } from './call-runner.ts'
import { type KnownAnswer, MAX_TOKENS } from './known-answers.ts'

export type Kind = 'whole' | 'hang-up' | 'deadline' | 'unknown-adapter'

/** Shares of the arrivals; the rest are read to their end. */
const SHARES: [Kind, number][] = [
  ['hang-up', 0.06],
  ['deadline', 0.04],
  ['unknown-adapter', 0.01],
]
/** Popularity falls with rank to this power. */
const ZIPF = 1
/** Answers under way at once; an arrival beyond it is dropped and counted, since an open loop would pile up. */
const MOST_IN_FLIGHT = 16
/** Longest time that a request with a deadline gives the runner, ms: some make it, some do not. */
const DEADLINE_MS = 60
/** What a runner may answer to a request of the kind. */
const EXPECTED_ENDS: Record<Kind, string[]> = {
  whole: ['done'],
  'hang-up': ['left', 'done'],
  deadline: ['ERR_DEADLINE', 'done'],
  'unknown-adapter': ['ERR_VERSION_UNKNOWN'],
}

/** All of the bank is in use, or the queue is long: a busy runner says so and the caller comes back. Counted, never wrong. */
const BUSY = ['ERR_BANK_FULL', 'ERR_OVERLOADED']

export interface Tally {
  requests: Record<Kind, number>
  ends: Record<string, number>
  tokens: number
  /** Answers with a token that differs from the answer alone, and the first few of them in words. */
  wrong: number
  wrongExamples: string[]
  unexpectedEnds: number
  busy: number
  dropped: number
  /** Milliseconds of answers read to their end. */
  latency: number[]
  firstToken: number[]
}

export const newTally = (): Tally => ({
  requests: { whole: 0, 'hang-up': 0, deadline: 0, 'unknown-adapter': 0 },
  ends: {},
  tokens: 0,
  wrong: 0,
  wrongExamples: [],
  unexpectedEnds: 0,
  busy: 0,
  dropped: 0,
  latency: [],
  firstToken: [],
})

/** Sends requests in a Poisson stream until `until` (performance.now()); resolves when all are answered. */
export async function runTraffic(
  runner: RunnerCaller,
  known: KnownAnswer[][],
  how: { rate: number; seed: number; until: number; tally: Tally },
): Promise<void> {
  const { rate, until, tally } = how
  const random = mulberry32(how.seed)
  const draw = zipf(known.length, ZIPF, random)
  const inFlight = new Set<Promise<void>>()

  const kindOf = (): Kind => {
    let at = random()
    for (const [kind, share] of SHARES) if ((at -= share) < 0) return kind
    return 'whole'
  }

  const send = async (): Promise<void> => {
    const answers = known[draw()]!
    const { ask, tokens } = answers[Math.floor(random() * answers.length)]!
    const kind = kindOf()
    tally.requests[kind]++
    const outcome = await runner.generate(
      {
        ...ask,
        ...(kind === 'deadline' ? { deadline: Date.now() + 1 + random() * DEADLINE_MS } : {}),
        ...(kind === 'unknown-adapter' ? { adapters: [unknownAdapter(random)] } : {}),
      },
      kind === 'hang-up' ? 1 + Math.floor(random() * (MAX_TOKENS / 2)) : null,
    )
    judge(tally, kind, tokens, outcome, ask.adapters.map(({ label }) => label).join('+'))
  }

  let next = performance.now()
  while (next < until) {
    await sleep(Math.max(0, next - performance.now()))
    next += (-Math.log(1 - random()) * 1000) / rate
    if (inFlight.size >= MOST_IN_FLIGHT) {
      tally.dropped++
      continue
    }
    const request: Promise<void> = send()
      .catch((e) => {
        tally.unexpectedEnds++
        count(tally.ends, String(e))
      })
      .finally(() => inFlight.delete(request))
    inFlight.add(request)
  }
  await Promise.all(inFlight)
}

const count = (table: Record<string, number>, key: string): void => {
  table[key] = (table[key] ?? 0) + 1
}

const unknownAdapter = (random: () => number) => ({
  digest: fromHex(
    Array.from({ length: 64 }, () => Math.floor(random() * 16).toString(16)).join(''),
  ),
  weight: '1',
  label: '@soak/nobody@1.0.0',
  capability: null,
})

function judge(tally: Tally, kind: Kind, want: number[], outcome: Outcome, label: string): void {
  count(tally.ends, outcome.end)
  tally.tokens += outcome.tokens.length
  if (BUSY.includes(outcome.end)) tally.busy++
  else if (!EXPECTED_ENDS[kind].includes(outcome.end)) tally.unexpectedEnds++
  const length = Math.min(want.length, outcome.tokens.length)
  for (let i = 0; i < length; i++) {
    if (outcome.tokens[i] === want[i]) continue
    tally.wrong++
    if (tally.wrongExamples.length < 5)
      tally.wrongExamples.push(
        `${label || 'base'}: token ${i} ${outcome.tokens[i]}, not ${want[i]}`,
      )
    break
  }
  if (outcome.end === 'done' && outcome.tokens.length < length) tally.wrong++
  if (kind === 'whole' && outcome.end === 'done') {
    tally.latency.push(outcome.ms)
    tally.firstToken.push(outcome.firstTokenMs ?? outcome.ms)
  }
}
