import type { ImportReport } from '@graft/convert/import-adapter.ts'
import { cardOf, withCard } from '@graft/sdk/format/card.ts'
import { signEnvelope } from '@graft/sdk/format/jws.ts'
import { JWS_TYPES, type Manifest } from '@graft/sdk/format/manifest.ts'
import { manifestDigest } from '@graft/sdk/format/parse-manifest.ts'
import { goldensStatement, statementBytes } from '@graft/sdk/format/statements.ts'
import type { BaseFlags } from '../choose-base.ts'
import { type CliContext, registryOf, requireToken } from '../context.ts'
import { openInput } from '../files.ts'
import { openKey } from '../key-files.ts'
import { importFiles } from '../open-adapter.ts'
import { createBar } from '../progress.ts'
import { readGoldens } from '../read-goldens.ts'
import { readReadme } from '../read-readme.ts'
import { bytes, facts } from '../text.ts'

export interface PublishFlags extends BaseFlags {
  name: string
  version: string
  goldens?: string
  private?: boolean
  tag?: string[]
  key?: string
  description?: string
  license?: string
  /** False: the folder's README is left out. @default true */
  readme?: boolean
}

/** `graft publish <dir | file>`: import, show what was understood, sign, send. */
export async function publishCommand(
  context: CliContext,
  path: string,
  flags: PublishFlags,
): Promise<void> {
  const { output } = context
  requireToken(context)
  const key = await openKey(context.config.home, flags.key)
  const registry = registryOf(context)
  await using input = await openInput(path)
  const imported = await importFiles(context, input.files, flags, {
    name: flags.name,
    version: flags.version,
    ...(flags.description ? { description: flags.description } : {}),
    ...(flags.license ? { license: flags.license } : {}),
  })
  const { base } = imported
  const readme = flags.readme === false ? null : await readReadme(input.files)
  const manifest = readme ? await withCard(imported.manifest, readme.bytes) : imported.manifest
  const ignoredFiles = imported.report.ignoredFiles.filter((file) => file !== readme?.path)
  const report = { ...imported.report, ignoredFiles }
  output.log(understood(manifest, report))
  const golden = flags.goldens ? await readGoldens(flags.goldens) : null
  const attestations = []
  if (golden) {
    const statement = goldensStatement(
      manifest.name,
      await manifestDigest(manifest),
      golden.goldens,
    )
    attestations.push(await signEnvelope(statementBytes(statement), JWS_TYPES.attestation, [key]))
  } else output.log('no goldens: runners cannot prove that they compute what the author trained')
  const bar = createBar(output, 'upload')
  const published = await registry.publish({
    manifest,
    safetensors: imported.safetensors,
    attestations,
    keys: [key],
    blobs: [
      ...(golden ? [{ digest: golden.goldens.logits.sha256, bytes: golden.logits }] : []),
      ...(readme ? [{ digest: cardOf(manifest)!.sha256, bytes: readme.bytes }] : []),
    ],
    visibility: flags.private ? 'private' : 'public',
    ...(flags.tag ? { tags: flags.tag } : {}),
    streamUploads: true,
    signal: context.signal,
    onProgress: ({ phase, sent, total }) => {
      if (phase === 'uploading') bar(sent, total)
      else if (output.live && phase !== 'published') output.progress(`${phase}...`)
    },
  })
  const { name, version, digest, created } = published
  output.result(
    {
      ...published,
      visibility: flags.private ? 'private' : 'public',
      base: base.digest,
      signer: key.kid,
      goldens: golden !== null,
      report,
    },
    () =>
      `${created ? 'published' : 'unchanged: already published'} ${name}@${version}\n${digest}\n`,
  )
  output.log(`call it: graft run ${name}@${version} 'your prompt'`)
}

const readmeText = (manifest: Manifest): string | null => {
  const card = cardOf(manifest)
  return card && `${bytes(card.size)}, shown on the package's page`
}

/** What the importer understood, for people to check before anybody else relies on it. */
export function understood(manifest: Manifest, report: ImportReport): string {
  return facts([
    ['adapter', `${manifest.name}@${manifest.version}`],
    ['source', `${report.format}${report.toolVersion ? ` ${report.toolVersion}` : ''}`],
    ['method', [report.family, ...report.flags].join(' + ')],
    ['base', `${manifest.base.name} (${manifest.base.architecture})`],
    [
      'operations',
      Object.entries(report.operations)
        .map(([kind, count]) => `${count} ${kind}`)
        .join(', '),
    ],
    ['scale', report.scales.join(', ') || null],
    ['tensors', report.tensors],
    ['parameters', report.parameters.toLocaleString('en-US')],
    ['size', bytes(report.bytes)],
    ['readme', readmeText(manifest)],
    ['config keys without effect', report.inertKeys.join(', ') || null],
    ['files left out', report.ignoredFiles.join(', ') || null],
    ['exports back', report.byteExact ? 'byte for byte' : 'tensor for tensor'],
  ]).trimEnd()
}
