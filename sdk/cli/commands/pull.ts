import { join } from 'node:path'
import type { PulledAdapter, RegistryClient } from '@graft/sdk/client/registry-client.ts'
import { cardOf } from '@graft/sdk/format/card.ts'
import { GOLDENS_PREDICATE, type Goldens } from '@graft/sdk/format/manifest.ts'
import { manifestBytes } from '@graft/sdk/format/parse-manifest.ts'
import { type CliContext, registryOf } from '../context.ts'
import { type DemandFlags, demandsOf } from '../demand-flags.ts'
import { readIfThere, writeFolderAtomically } from '../files.ts'
import { proveLogged } from '../follow-log.ts'
import { createBar } from '../progress.ts'
import { skippedLines, stateLines } from '../state-text.ts'
import { bytes } from '../text.ts'

/** The files of a pulled adapter; `version.json` is what lets anybody verify the others offline. */
export const PULLED = {
  manifest: 'adapter.json',
  weights: 'adapter.safetensors',
  version: 'version.json',
  goldens: 'goldens.safetensors',
  readme: 'README.md',
} as const

export interface PullFlags extends DemandFlags {
  output?: string
  force?: boolean
  signer?: string[]
}

/** `graft pull <ref>`: a folder with everything verified, whole or not at all. */
export async function pullCommand(
  context: CliContext,
  ref: string,
  flags: PullFlags,
): Promise<void> {
  const { output } = context
  const registry = registryOf(context)
  const bar = createBar(output, 'download')
  const pulled = await registry.pull(ref, {
    onProgress: bar,
    signal: context.signal,
    ...demandsOf(flags),
    ...(flags.signer ? { signers: flags.signer } : {}),
  })
  const { name, version } = pulled.resolution
  const folder = flags.output ?? `${name.split('/')[1]}-${version}`
  const files = await filesOf(registry, await proveLogged(context, registry, pulled))
  const written = !(await isSame(folder, files))
  if (written) await writeFolderAtomically(folder, files, flags.force)
  const { digest, signers, resolution } = pulled
  output.result(
    {
      name,
      version,
      digest,
      signers,
      folder,
      written,
      base: resolution.base,
      size: resolution.size,
    },
    () => `${written ? 'pulled' : 'unchanged'} ${name}@${version} to ${folder}\n${digest}\n`,
  )
  output.log(
    `${bytes(pulled.safetensors.length)}, signed by ${signers.join(', ')}; signatures, digests, shapes and log verified`,
  )
  for (const line of stateLines(pulled.record.state)) output.log(`${name}@${version} is ${line}`)
  for (const line of skippedLines(resolution)) output.log(`passed over ${name}@${line}`)
}

export const goldensOf = ({ attestations }: Pick<PulledAdapter, 'attestations'>): Goldens | null =>
  (attestations.find(({ statement }) => statement.predicateType === GOLDENS_PREDICATE)?.statement
    .predicate as Goldens | undefined) ?? null

export async function filesOf(
  registry: RegistryClient,
  pulled: PulledAdapter,
): Promise<Map<string, Uint8Array>> {
  const goldens = goldensOf(pulled)
  const files = new Map<string, Uint8Array>([
    [PULLED.manifest, manifestBytes(pulled.manifest)],
    [PULLED.weights, pulled.safetensors],
    [PULLED.version, new TextEncoder().encode(`${JSON.stringify(pulled.record, null, 2)}\n`)],
  ])
  if (goldens) {
    const { sha256, size } = goldens.logits
    files.set(PULLED.goldens, await registry.blob(sha256, { size }))
  }
  const card = cardOf(pulled.manifest)
  if (card) files.set(PULLED.readme, await registry.blob(card.sha256, { size: card.size }))
  return files
}

/** By the files that name the version; version.json also holds what may change, like the status of keys. */
async function isSame(folder: string, files: ReadonlyMap<string, Uint8Array>): Promise<boolean> {
  for (const name of [PULLED.manifest, PULLED.weights]) {
    const there = await readIfThere(join(folder, name))
    const want = files.get(name)!
    if (there?.length !== want.length || there.some((byte, i) => byte !== want[i])) return false
  }
  return true
}
