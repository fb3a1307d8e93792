/**
 * Merged against unmerged: greedy answers and likelihood of the sample adapters over generated cases, on every base
 * precision. `node test/bench/merge-accuracy.ts [--cases 5040] [--precision fp32,int8,w8a8,int4,nf4]`; needs python3 for the
 * generators of test/models/tasks.py. One JSON object on stdout, progress on stderr.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { describeCheckpoint } from '@graft/runner/checkpoint/describe-checkpoint.ts'
import type { Engine, LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { openMergedEngine } from '@graft/runner/engine/merged/open-merged.ts'
import { openEngine, parsePrecision } from '@graft/runner/engine/open-engine.ts'
import { openTokenizer } from '@graft/runner/tokenizer/open-tokenizer.ts'
import type { TextCodec } from '@graft/runner/tokenizer/tokenizer.ts'
import { importFolder } from '../gpu-runner/engine/peer-goldens.ts'
import { pairedDifference, pairedShare } from './paired.ts'

const MODELS = join(import.meta.dirname, '../models')
const SAMPLES = join(import.meta.dirname, '../../infra/samples')
const BASE = join(SAMPLES, 'base/graft-tiny')
/** Every sample that is a change of weights. */
const ADAPTERS = {
  'json-lora-r16': 'json',
  'json-rslora': 'json',
  'sql-lora-r8': 'sql',
  'sql-lora-r64': 'sql',
  'sql-lora-head': 'sql',
  'intent-dora': 'intent',
  'intent-ia3': 'intent',
} as const
const ROWS = 32
const MOST_TOKENS = 64
const { separator: SEPARATOR } = JSON.parse(
  readFileSync(join(SAMPLES, 'samples.json'), 'utf8'),
) as { separator: string }

interface Case {
  prompt: number[]
  /** The right answer, closed by EOS. */
  answer: number[]
  text: string
}

interface Outcome {
  right: boolean
  /** Of the right answer, in nats. */
  nll: number
}

/** The first 500 are those that training never saw; those after them are drawn the same way. */
function generate(codec: TextCodec, eos: number, task: string, count: number): Case[] {
  const script = `import json,sys; sys.path.insert(0, ${JSON.stringify(MODELS)})
from tasks import held_out; print(json.dumps(held_out("${task}", ${count})))`
  const pairs = JSON.parse(execFileSync('python3', ['-c', script], { encoding: 'utf8' })) as [
    string,
    string,
  ][]
  const encode = (text: string) => codec.encodePrompt({ kind: 'text', text })
  return pairs.map(([prompt, text]) => ({
    prompt: encode(prompt + SEPARATOR),
    answer: [...encode(text), eos],
    text,
  }))
}

type Terms = Parameters<Engine['open']>[1]

/** Runs sequences ROWS at a time; one that ends makes room for the next. `next` gives the token to feed, or null. */
async function runAll(
  engine: Engine,
  terms: Terms,
  prompts: number[][],
  logits: 'last' | 'all',
  next: (sequence: number, logits: Float32Array) => number | null,
): Promise<void> {
  const waiting = prompts.map((tokenIds, sequence) => ({ sequence, tokenIds, logits })).reverse()
  let open: typeof waiting = []
  while (waiting.length > 0 || open.length > 0) {
    while (open.length < ROWS && waiting.length > 0) {
      const row = waiting.pop()!
      await engine.open(row.sequence, terms)
      open.push(row)
    }
    const { rows } = await engine.step(open)
    const still: typeof open = []
    for (const row of rows) {
      const token = next(row.sequence, row.logits)
      if (token === null) await engine.close(row.sequence)
      else still.push({ sequence: row.sequence, tokenIds: [token], logits })
    }
    open = still
  }
}

const best = (logits: Float32Array): number => {
  let at = 0
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[at]!) at = i
  return at
}

function logProbability(logits: Float32Array, token: number): number {
  let most = Number.NEGATIVE_INFINITY
  for (const value of logits) if (value > most) most = value
  let sum = 0
  for (const value of logits) sum += Math.exp(value - most)
  return logits[token]! - most - Math.log(sum)
}

async function measure(
  engine: Engine,
  terms: Terms,
  cases: Case[],
  codec: TextCodec,
  eos: number,
): Promise<Outcome[]> {
  const { vocab } = engine.info
  const said: number[][] = cases.map(() => [])
  await runAll(
    engine,
    terms,
    cases.map(({ prompt }) => prompt),
    'last',
    (i, logits) => {
      const token = best(logits)
      said[i]!.push(token)
      return token === eos || said[i]!.length === MOST_TOKENS ? null : token
    },
  )
  const nll: number[] = []
  await runAll(
    engine,
    terms,
    cases.map(({ prompt, answer }) => [...prompt, ...answer.slice(0, -1)]),
    'all',
    (i, logits) => {
      const { prompt, answer } = cases[i]!
      nll[i] = 0
      for (const [t, token] of answer.entries()) {
        const at = (prompt.length - 1 + t) * vocab
        nll[i]! -= logProbability(logits.subarray(at, at + vocab), token)
      }
      return null
    },
  )
  return cases.map(({ text }, i) => ({
    right: said[i]!.at(-1) === eos && codec.decode(said[i]!.slice(0, -1)) === text,
    nll: nll[i]!,
  }))
}

function compare(cases: Case[], unmerged: Outcome[], merged: Outcome[]) {
  const tokens = cases.map(({ answer }) => answer.length)
  const perToken = (outcomes: Outcome[]) =>
    outcomes.reduce((sum, { nll }) => sum + nll, 0) / tokens.reduce((a, b) => a + b, 0)
  return {
    cases: cases.length,
    accuracy: pairedShare(
      unmerged.map(({ right }) => right),
      merged.map(({ right }) => right),
    ),
    nll_per_token: {
      unmerged: perToken(unmerged),
      merged: perToken(merged),
      // By case, since tokens of one answer hang together.
      ...pairedDifference(
        unmerged.map(({ nll }, i) => nll / tokens[i]!),
        merged.map(({ nll }, i) => nll / tokens[i]!),
      ),
    },
  }
}

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '5040' },
    precision: { type: 'string', default: 'fp32,int8,w8a8,int4,nf4' },
  },
})
const each = Math.ceil(Number(values.cases) / Object.keys(ADAPTERS).length)
const base = await describeCheckpoint(BASE, 'graft-tiny')
const [vocab] = base.tensors.find(({ name }) => name === 'lm_head.weight')!.shape
const codec = await openTokenizer(BASE, vocab!)
const [eos] = [...codec.eosTokenIds] as [number]
const cases = new Map(
  [...new Set(Object.values(ADAPTERS))].map((task) => [task, generate(codec, eos, task, each)]),
)
const adapters = new Map<string, LoadedAdapter>()
for (const name of Object.keys(ADAPTERS))
  adapters.set(name, await importFolder(join(SAMPLES, 'adapters', name), base))

const result: Record<string, unknown> = { base: 'graft-tiny', cases_per_adapter: each }
for (const precision of values.precision.split(',').map(parsePrecision)) {
  const options = {
    checkpointDir: BASE,
    baseDigest: base.digest,
    precision,
    slots: ROWS,
    threads: 1,
  }
  const engine = await openEngine(options)
  const all = { cases: [] as Case[], unmerged: [] as Outcome[], merged: [] as Outcome[] }
  const rows: Record<string, unknown> = {}
  for (const [name, task] of Object.entries(ADAPTERS)) {
    const begin = performance.now()
    const adapter = adapters.get(name)!
    const own = cases.get(task)!
    await engine.load(adapter)
    const terms = [{ digest: adapter.digest, weight: 1 }]
    const unmerged = await measure(engine, terms, own, codec, eos)
    const form = await openMergedEngine(options, adapter)
    const merged = await measure(form, [], own, codec, eos)
    await form[Symbol.asyncDispose]()
    rows[name] = compare(own, unmerged, merged)
    all.cases.push(...own)
    all.unmerged.push(...unmerged)
    all.merged.push(...merged)
    const seconds = ((performance.now() - begin) / 1000).toFixed(0)
    console.error(`${precision} ${name} (${seconds} s) ${JSON.stringify(rows[name])}`)
  }
  await engine[Symbol.asyncDispose]()
  result[precision] = { all: compare(all.cases, all.unmerged, all.merged), adapters: rows }
}
console.log(JSON.stringify(result, null, 2))
