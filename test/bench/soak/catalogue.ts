import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { describeCheckpoint } from '@graft/runner/checkpoint/describe-checkpoint.ts'
import { parseModelConfig } from '@graft/runner/checkpoint/model-config.ts'
import { createRegistryClient } from '@graft/sdk/client/registry-client.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { generateSigningKey, signEnvelope } from '@graft/sdk/format/jws.ts'
import { JWS_TYPES, type Manifest } from '@graft/sdk/format/manifest.ts'
import { manifestDigest } from '@graft/sdk/format/parse-manifest.ts'
import { goldensStatement, statementBytes } from '@graft/sdk/format/statements.ts'
import { readSample, type Sample, sampleNames } from '../../../infra/dev/samples.ts'
import { checkpointDir } from '../../../infra/dev/stack.ts'
import { manifestOf } from '../manifest-of.ts'
import { randomBottleneck, randomDora, randomIa3, randomLora } from '../random-adapters.ts'

/** What can be called: nothing (the base alone), one adapter, or a weighted sum. */
export interface Callable {
  label: string
  adapters: { digest: Digest; weight: string; label: string }[]
  prompts: string[]
}

export interface Catalogue {
  base: Digest
  /** Most called first. */
  callables: Callable[]
}

const ORG = 'soak'
/** Generated adapters beside the samples, by method: in all several times what the bank holds. */
const GENERATED = { lora: 28, dora: 8, ia3: 8, bottleneck: 8 }
const MAKE = { lora: randomLora, dora: randomDora, ia3: randomIa3, bottleneck: randomBottleneck }
const PROMPTS_EACH = 2

/** Publishes the samples, with the peers' goldens, and generated adapters, without, through the public API. */
export async function fillRegistry(
  registryUrl: string,
  setupCode: string,
  samplesDir: string,
): Promise<Catalogue> {
  const { token } = await createRegistryClient({ url: registryUrl }).setup({
    code: setupCode,
    user: 'operator',
    org: ORG,
  })
  const registry = createRegistryClient({ url: registryUrl, token })
  const key = await generateSigningKey()
  await registry.addKey(ORG, key.publicJwk)
  const folder = checkpointDir(samplesDir)
  const base = await describeCheckpoint(folder)
  await registry.putBase(base)

  const publishSample = async (sample: Sample) => {
    const name = `@${ORG}/${sample.name}`
    const { manifest, safetensors } = await importAdapter({
      files: sample.files,
      base,
      name,
      version: '1.0.0',
    })
    const statement = goldensStatement(name, await manifestDigest(manifest), sample.goldens)
    const goldens = await signEnvelope(statementBytes(statement), JWS_TYPES.attestation, [key])
    const { digest } = await registry.publish({
      manifest,
      safetensors,
      blobs: [{ digest: sample.goldens.logits.sha256, bytes: sample.logits }],
      attestations: [goldens],
      keys: [key],
    })
    return digest
  }
  const samples = new Map<string, Digest>()
  const prompts = new Map<string, string[]>()
  for (const name of await sampleNames(samplesDir)) {
    const sample = await readSample(samplesDir, name)
    samples.set(name, await publishSample(sample))
    prompts.set(
      name,
      sample.prompts.map(({ prompt }) => prompt),
    )
  }
  const allPrompts = [...prompts.values()].flat()
  const some = (i: number): string[] =>
    Array.from({ length: PROMPTS_EACH }, (_, k) => allPrompts[(7 * i + 3 * k) % allPrompts.length]!)

  const config = parseModelConfig(JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')))
  const generated: Callable[] = []
  for (const [method, count] of Object.entries(GENERATED))
    for (let i = 0; i < count; i++) {
      const loaded = MAKE[method as keyof typeof MAKE](generated.length + 1, config)
      const name = `@${ORG}/generated-${method}-${i}`
      const published: { manifest: Manifest; safetensors: Uint8Array } = await manifestOf(
        loaded,
        base,
        name,
      )
      const { digest } = await registry.publish({ ...published, keys: [key] })
      const label = `${name}@1.0.0`
      generated.push({
        label,
        adapters: [{ digest, weight: '1', label }],
        prompts: some(generated.length),
      })
    }

  const named: Callable[] = [...samples].map(([name, digest]) => {
    const label = `@${ORG}/${name}@1.0.0`
    return {
      label,
      adapters: [{ digest, weight: '1', label }],
      prompts: prompts.get(name)!.slice(0, PROMPTS_EACH),
    }
  })
  const sum = (parts: [name: string, weight: string][]): Callable => ({
    label: parts.map(([name, weight]) => `${weight}(${name})`).join('+'),
    adapters: parts.map(([name, weight]) => ({
      digest: samples.get(name)!,
      weight,
      label: `@${ORG}/${name}@1.0.0`,
    })),
    prompts: some(parts.length),
  })
  const sums = [
    sum([
      ['json-lora-r16', '0.7'],
      ['json-rslora', '0.3'],
    ]),
    sum([
      ['sql-lora-r8', '0.5'],
      ['intent-dora', '0.5'],
    ]),
  ]
  const alone: Callable = { label: 'base', adapters: [], prompts: allPrompts.slice(0, 4) }
  return { base: base.digest, callables: deal([[alone], named, sums, generated]) }
}

/** One of each list in turn, so that every method stands among the popular ones. */
function deal(lists: Callable[][]): Callable[] {
  const dealt: Callable[] = []
  for (let i = 0; lists.some((list) => i < list.length); i++)
    for (const list of lists) if (i < list.length) dealt.push(list[i]!)
  return dealt
}
