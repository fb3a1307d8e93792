import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Engine } from '@graft/runner/engine/engine.ts'
import type { Precision } from '@graft/runner/engine/graph/precisions.ts'
import { linearSites } from '@graft/runner/engine/graph/sites.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { openTokenizer } from '@graft/runner/tokenizer/open-tokenizer.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { type Bench, NOTHING } from './bench.ts'
import { interleave, timed } from './interleave.ts'
import { randomBase } from './random-base.ts'
import { openRandomEngine } from './random-engine.ts'
import { openRows, type Rows, randomPrompt } from './rows.ts'
import { SHAPES, type Shape } from './shapes.ts'
import { rounded, speedRatio, summary } from './statistics.ts'
import { meanNll, storyTokens } from './text-nll.ts'

const ROWS = 16
const PAST = 100
const PROMPT = 128
const ARMS = ['int4', 'nf4', 'nf4-exact'] as const satisfies Precision[]
type Arm = (typeof ARMS)[number]
const FAST: readonly Arm[] = ['int4', 'nf4']

/** Over `int4`. */
type Speed = ReturnType<typeof speedRatio> & { step_ms: ReturnType<typeof summary> }

/** Real checkpoints for the likelihood of text, those that are there. */
const BASES = {
  'tinystories-656k': join(import.meta.dirname, '../../../shared/data/bases/tinystories-656k'),
  'graft-tiny': join(import.meta.dirname, '../../infra/samples/base/graft-tiny'),
}

/** The base of QLoRA: its memory over fp32, its speed over blockwise int4, and what it costs on text. */
export const nf4: Bench = {
  about: 'a base in NF4: memory over fp32, decode speed over int4, likelihood of text',
  needs: NOTHING,
  async run({ quick, progress }) {
    const folder = await mkdtemp(join(tmpdir(), 'graft-bench-nf4-'))
    const engines: Partial<Record<Arm, Engine>> = {}
    try {
      const checkpoint = randomBase('random-2048', SHAPES['2048'])
      const memory: Record<string, number> = {}
      for (const precision of ARMS) {
        const prepared = join(folder, precision)
        engines[precision] = await openRandomEngine(checkpoint, {
          precision,
          prepared,
          slots: ROWS,
        })
        // The first step builds the session.
        await engines[precision].open(1, [])
        await engines[precision].step([{ sequence: 1, tokenIds: [3], logits: 'last' }])
        await engines[precision].close(1)
        memory[precision] = (await weightBytes(prepared)) / fp32Bytes(SHAPES['2048'])
        progress(`${precision}: ${rounded(memory[precision], 3)} of the fp32 bytes`)
      }
      const all = engines as Record<Arm, Engine>
      const speeds: Record<string, Record<string, Speed>> = {}
      for (const rows of [1, ROWS]) {
        // Reading 16 prompts with the slow form takes longer than all else together.
        const names = rows > 1 && quick ? FAST : ARMS
        const arms: Partial<Record<Arm, Rows>> = {}
        for (const arm of names)
          arms[arm] = await openRows(all[arm], rows * 100, Array(rows).fill(null), PAST)
        const most = rows === 1 ? 40 : 20
        speeds[`b${rows}`] = await compare(names, (arm) => arms[arm]!.step(), quick, most)
        for (const opened of Object.values(arms)) await opened.close()
        progress(`batch of ${rows} decoded`)
      }
      let next = 10_000
      speeds['prefill'] = await compare(FAST, (arm) => prefill(all[arm], next++), quick, 10)
      const text = await likelihoods(quick ? 12 : 100)
      const main = text['tinystories-656k'] ?? text['graft-tiny']
      return {
        memory_ratio: rounded(memory['nf4']!),
        nll_delta: main ? main.delta['nf4']! : null,
        speed_vs_q4: Math.min(speeds['b1']!['nf4']!.ratio, speeds[`b${ROWS}`]!['nf4']!.ratio),
        speed_is: `the lower of one row and ${ROWS} rows`,
        memory_is: 'bytes of the prepared weights file over fp32, tables of positions left out',
        memory_ratios: memory,
        speed_over_int4: speeds,
        text,
        text_is: main ? 'TinyStories' : 'absent: ../shared/data/text',
        past: PAST,
        prompt: PROMPT,
        shape: '2048',
      }
    } finally {
      for (const engine of Object.values(engines)) await engine[Symbol.asyncDispose]()
      await rm(folder, { recursive: true, force: true })
    }
  },
}

async function compare(
  arms: readonly Arm[],
  work: (arm: Arm) => Promise<void>,
  quick: boolean,
  most: number,
): Promise<Record<string, Speed>> {
  const runs = Object.fromEntries(arms.map((arm) => [arm, () => timed(() => work(arm))]))
  const ms = await interleave(runs, { warmUp: 1, least: 5, most, seconds: quick ? 4 : 40 })
  const speed = (arm: Arm): Speed => ({
    ...speedRatio(ms['int4']!, ms[arm]!),
    step_ms: summary(ms[arm]!),
  })
  return Object.fromEntries(arms.map((arm) => [arm, speed(arm)]))
}

async function prefill(engine: Engine, sequence: number): Promise<void> {
  await engine.open(sequence, [])
  const tokenIds = randomPrompt(sequence, PROMPT, engine.info.vocab)
  await engine.step([{ sequence, tokenIds, logits: 'last' }])
  await engine.close(sequence)
}

/** Of weights, absmax and embeddings as they are mapped; tables of positions are no weights. */
async function weightBytes(prepared: string): Promise<number> {
  const index = JSON.parse(await readFile(join(prepared, 'index.json'), 'utf8')) as {
    weights: Record<string, [offset: number, length: number]>
  }
  return Object.entries(index.weights)
    .filter(([name]) => !name.startsWith('rope.'))
    .reduce((sum, [, [, length]]) => sum + length, 0)
}

function fp32Bytes(shape: Shape): number {
  const config = { ...randomBase('shape', shape).config }
  const linears = linearSites(config).reduce((sum, site) => sum + site.in * site.out, 0)
  return 4 * (linears + 2 * shape.vocab * shape.hidden)
}

/** Nats per token of fp32, and what each precision adds. */
async function likelihoods(stories: number) {
  const found: Record<string, { fp32: number; tokens: number; delta: Record<string, number> }> = {}
  for (const [name, dir] of Object.entries(BASES)) {
    const checkpoint = await readCheckpoint(dir).catch(() => null)
    if (!checkpoint) continue
    const codec = await openTokenizer(dir, checkpoint.config.vocab)
    const sequences = await storyTokens(codec, stories)
    if (!sequences) continue
    const nll = async (precision: Precision) => {
      const baseDigest = fromHex('0'.repeat(64))
      await using engine = await openOnnxEngine({ checkpoint, baseDigest, precision, slots: 1 })
      return meanNll(engine, sequences)
    }
    const fp32 = await nll('fp32')
    const delta: Record<string, number> = {}
    for (const precision of ['int8', 'w8a8', ...ARMS] as const)
      delta[precision] = rounded((await nll(precision)) - fp32, 3)
    const tokens = sequences.reduce((sum, ids) => sum + ids.length - 1, 0)
    found[name] = { fp32: rounded(fp32), tokens, delta }
  }
  return found
}
