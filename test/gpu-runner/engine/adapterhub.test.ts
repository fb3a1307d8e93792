import { join } from 'node:path'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { describeCheckpoint } from '@graft/runner/checkpoint/describe-checkpoint.ts'
import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Engine } from '@graft/runner/engine/engine.ts'
import { loadedAdapterFromManifest } from '@graft/runner/engine/loaded-adapter.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { openReferenceEngine } from '@graft/runner/engine/reference/reference-engine.ts'
import type { Manifest } from '@graft/sdk/format/manifest.ts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { logitsTogether, type Terms } from './measure.ts'
import { readBytes, readJson, readLogits, worstPosition } from './peer-goldens.ts'

/*
 * LoRA, DoRA, VeRA, IA3, prefixes and unions as AdapterHub saves them, imported and served, against the library's own
 * logits: fixtures/make-adapterhub.py.
 */

const FIXTURES = join(import.meta.dirname, 'fixtures')
const LIMIT = 1e-4

interface Facts {
  prompts: number[][]
  steps: number[][]
  made: string[]
}

/** The same prefix as PEFT's would be: with the real tokens' positions behind it. */
const withCountedPrefix = (manifest: Manifest): Manifest => {
  const operations = manifest.operations.map((op) => {
    if (op.op !== 'prefix') return op
    const { firstPosition: _, ...rest } = op
    return rest
  })
  return { ...manifest, operations }
}

async function openBase(name: string) {
  const folder = join(FIXTURES, 'operations', name, 'base')
  const base = {
    ...(await describeCheckpoint(folder, name)),
    config: await readJson<Record<string, number>>(join(folder, 'config.json')),
  }
  const checkpoint = await readCheckpoint(folder)
  const adapters = join(FIXTURES, 'adapterhub', name)
  const engines: Record<'onnx' | 'reference', Engine> = {
    onnx: await openOnnxEngine({ checkpoint, baseDigest: base.digest }),
    reference: await openReferenceEngine({ checkpoint, baseDigest: base.digest }),
  }
  const facts = await readJson<Facts>(join(adapters, 'goldens.json'))
  const terms = new Map<string, Terms>([['base', []]])
  let counted: Terms = []
  for (const adapter of facts.made) {
    const files = new Map<string, Uint8Array>()
    for (const path of ['adapter_config.json', 'adapter.safetensors'])
      files.set(path, await readBytes(join(adapters, adapter, path)))
    const made = await importAdapter({ files, base, name: '@peers/sample', version: '1.0.0' })
    const load = async (manifest: Manifest): Promise<Terms> => {
      const loaded = await loadedAdapterFromManifest(manifest, made.safetensors)
      for (const engine of Object.values(engines)) await engine.load(loaded)
      return [{ digest: loaded.digest, weight: 1 }]
    }
    terms.set(adapter, await load(made.manifest))
    if (adapter === 'prefix') counted = await load(withCountedPrefix(made.manifest))
  }
  const goldens = await readLogits(join(adapters, 'goldens.safetensors'))
  return { engines, facts, terms, goldens, counted }
}

describe.each(['biased', 'tied'])('on the %s base', (name) => {
  let opened: Awaited<ReturnType<typeof openBase>>
  const worst = { onnx: 0, reference: 0, together: 0 }

  beforeAll(async () => {
    opened = await openBase(name)
  }, 120_000)
  afterAll(async () => {
    console.log(`${name}: worst share of max |logit| against AdapterHub: ${JSON.stringify(worst)}`)
    for (const engine of Object.values(opened?.engines ?? {})) await engine[Symbol.asyncDispose]()
  })

  const runs = () =>
    [...opened.terms].flatMap(([adapter, terms]) =>
      opened.facts.prompts.map((prompt, i) => ({
        adapter,
        i,
        terms,
        prompt,
        answer: opened.facts.steps[i]!,
      })),
    )
  const compare = (key: keyof typeof worst, own: Float32Array, adapter: string, i: number) => {
    const golden = opened.goldens.get(`${adapter}.${i}`)!
    const share = worstPosition(own, golden, opened.engines.onnx.info.vocab)
    worst[key] = Math.max(worst[key], share)
    expect(share, `${adapter}, prompt ${i}, ${key}`).toBeLessThanOrEqual(LIMIT)
  }

  test.each(['reference', 'onnx'] as const)(
    'every adapter alone gives the logits of AdapterHub: %s',
    async (key) => {
      for (const run of runs()) {
        const [own] = await logitsTogether(opened.engines[key], [run])
        compare(key, own!, run.adapter, run.i)
      }
    },
    120_000,
  )

  test('all of them and the base in one batch give the same logits', async () => {
    const together = await logitsTogether(opened.engines.onnx, runs())
    for (const [r, { adapter, i }] of runs().entries())
      compare('together', together[r]!, adapter, i)
  }, 120_000)

  test.each(['reference', 'onnx'] as const)(
    'a prefix that counts as positions answers otherwise: %s',
    async (key) => {
      const [prompt, answer] = [opened.facts.prompts[0]!, opened.facts.steps[0]!]
      const [own] = await logitsTogether(opened.engines[key], [
        { terms: opened.counted, prompt, answer },
      ])
      const golden = opened.goldens.get('prefix.0')!
      expect(worstPosition(own!, golden, opened.engines.onnx.info.vocab)).toBeGreaterThan(0.01)
    },
  )

  test('no golden is the base itself', () => {
    const { vocab } = opened.engines.onnx.info
    for (const adapter of opened.facts.made)
      expect(
        worstPosition(opened.goldens.get(`${adapter}.0`)!, opened.goldens.get('base.0')!, vocab),
      ).toBeGreaterThan(0.05)
  })
})
