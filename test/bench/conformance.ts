import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describeCheckpoint } from '@graft/runner/checkpoint/describe-checkpoint.ts'
import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Engine } from '@graft/runner/engine/engine.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { argmax } from '@graft/runner/sampling/argmax.ts'
import { samplesDir } from '../../infra/dev/options.ts'
import { checkpointDir } from '../../infra/dev/stack.ts'
import { freshId, logitsTogether, type Terms } from '../gpu-runner/engine/measure.ts'
import {
  importFolder,
  readJson,
  readLogits,
  worstPosition,
} from '../gpu-runner/engine/peer-goldens.ts'
import { type Bench, NOTHING } from './bench.ts'
import { rounded } from './statistics.ts'

const FIXTURES = join(import.meta.dirname, '../gpu-runner/engine/fixtures/operations')
/** Share of the largest logit: within it two tokens are a near-tie, beyond it a difference is one. */
const LIMIT = 1e-4

interface Operations {
  peft: string
  adapters: string
  torch: string
  prompts: number[][]
  steps: number[][]
  adapters_made: string[]
  sums: Record<string, { adapter: string; weight: number }[]>
}

interface SampleGoldens {
  producer: string
  prompts: { tokenIds: number[]; greedy: { tokenIds: number[]; margins: number[] } }[]
}

/** The figures behind the conformance tests: logits of HF PEFT and AdapterHub, committed, against the engine's in fp32. */
export const conformance: Bench = {
  about: 'logits and greedy answers against those of HF PEFT and AdapterHub, fp32',
  needs: NOTHING,
  async run({ progress }) {
    const operations: Record<string, Awaited<ReturnType<typeof measureOperations>>> = {}
    for (const entry of await readdir(FIXTURES, { withFileTypes: true })) {
      if (!entry.isDirectory()) continue
      const { name } = entry
      operations[name] = await measureOperations(join(FIXTURES, name), name)
      progress(`${name}: every adapter and sum`)
    }
    const greedy = await measureGreedy()
    const worst = (key: 'worst_alone' | 'worst_together') =>
      Math.max(...Object.values(operations).map((figures) => figures[key]))
    return {
      worst_alone: worst('worst_alone'),
      worst_together: worst('worst_together'),
      greedy_same_share: rounded(greedy.same / greedy.cases.length),
      unit: 'largest difference of a logit over the largest logit of its position',
      operations,
      greedy,
    }
  },
}

/** One base with all its adapters and sums: each alone, then in mixed batches of 16. */
async function measureOperations(folder: string, name: string) {
  const base = await describeCheckpoint(join(folder, 'base'), name)
  const checkpoint = await readCheckpoint(join(folder, 'base'))
  await using engine = await openOnnxEngine({ checkpoint, baseDigest: base.digest })
  const facts = await readJson<Operations>(join(folder, 'goldens.json'))
  const goldens = await readLogits(join(folder, 'goldens.safetensors'))
  const terms = new Map<string, Terms>([['base', []]])
  const kinds = new Set<string>()
  for (const adapter of facts.adapters_made) {
    const loaded = await importFolder(join(folder, adapter), base)
    await engine.load(loaded)
    for (const { op } of loaded.operations) kinds.add(op)
    terms.set(adapter, [{ digest: loaded.digest, weight: 1 }])
  }
  for (const [sum, parts] of Object.entries(facts.sums))
    terms.set(
      `sum:${sum}`,
      parts.map(({ adapter, weight }) => ({ ...terms.get(adapter)![0]!, weight })),
    )
  const runs = [...terms].flatMap(([name, own]) =>
    facts.prompts.map((prompt, i) => {
      const golden = goldens.get(`${name}.${i}`)!
      return { terms: own, prompt, answer: facts.steps[i]!, golden }
    }),
  )
  const { vocab } = engine.info
  let alone = 0
  for (const run of runs) {
    const [own] = await logitsTogether(engine, [run])
    alone = Math.max(alone, worstPosition(own!, run.golden, vocab))
  }
  let together = 0
  const batches = Math.ceil(runs.length / 16)
  for (let b = 0; b < batches; b++) {
    const batch = runs.filter((_, i) => i % batches === b)
    for (const [r, own] of (await logitsTogether(engine, batch)).entries())
      together = Math.max(together, worstPosition(own, batch[r]!.golden, vocab))
  }
  return {
    worst_alone: rounded(alone, 3),
    worst_together: rounded(together, 3),
    adapters: facts.adapters_made.length,
    sums: Object.keys(facts.sums).length,
    kinds: [...kinds].sort(),
    producers: { peft: facts.peft, adapters: facts.adapters, torch: facts.torch },
  }
}

/** The samples' greedy answers, token by token, up to the first near-tie of the producer. */
async function measureGreedy() {
  const folder = checkpointDir(samplesDir)
  const base = await describeCheckpoint(folder)
  const checkpoint = await readCheckpoint(folder)
  await using engine = await openOnnxEngine({ checkpoint, baseDigest: base.digest })
  const cases: { name: string; tokens: number; compared: number; smallest_margin: number }[] = []
  let same = 0
  for (const file of (await readdir(join(samplesDir, 'goldens'))).sort()) {
    if (!file.endsWith('.json')) continue
    const name = file.slice(0, -'.json'.length)
    const { prompts } = await readJson<SampleGoldens>(join(samplesDir, 'goldens', file))
    let terms: Terms = []
    if (name !== 'base') {
      const adapter = await importFolder(join(samplesDir, 'adapters', name), base)
      await engine.load(adapter)
      terms = [{ digest: adapter.digest, weight: 1 }]
    }
    for (const { tokenIds, greedy } of prompts) {
      const compared = await followGreedy(engine, terms, tokenIds, greedy)
      if (compared === greedy.tokenIds.length) same++
      const smallest_margin = rounded(Math.min(...greedy.margins))
      cases.push({ name, tokens: greedy.tokenIds.length, compared, smallest_margin })
    }
  }
  return { same, cases }
}

/** @returns tokens alike before the first difference that is no near-tie, or all of them */
async function followGreedy(
  engine: Engine,
  terms: Terms,
  prompt: number[],
  { tokenIds, margins }: { tokenIds: number[]; margins: number[] },
): Promise<number> {
  const id = freshId()
  await engine.open(id, terms)
  let next = prompt
  try {
    for (const [t, token] of tokenIds.entries()) {
      const { rows } = await engine.step([{ sequence: id, tokenIds: next, logits: 'last' }])
      const { logits } = rows[0]!
      const most = logits.reduce((a, b) => Math.max(a, Math.abs(b)), 0)
      if (margins[t]! < LIMIT * most) return t
      if (argmax(logits) !== token) return t
      next = [token]
    }
    return tokenIds.length
  } finally {
    await engine.close(id)
  }
}
