import { importAdapter } from '@graft/convert/import-adapter.ts'
import { parseManifest } from '@graft/sdk/format/parse-manifest.ts'
import { verifyAdapter } from '@graft/sdk/format/verify-adapter.ts'
import { type CliContext, registryOf } from '../context.ts'
import { readFolder } from '../files.ts'
import { findBase } from '../find-base.ts'
import { bytes, facts, table } from '../text.ts'
import { understood } from './publish.ts'
import { PULLED } from './pull.ts'

/** `graft inspect <dir>`: what a training folder or a pulled adapter is, without publishing anything. */
export async function inspectCommand(
  context: CliContext,
  folder: string,
  flags: { base?: string },
): Promise<void> {
  const { output } = context
  const files = await readFolder(folder)
  const [own, weights] = [files.get(PULLED.manifest), files.get(PULLED.weights)]
  if (own && weights) {
    const manifest = parseManifest(own)
    await verifyAdapter(manifest, weights)
    output.result({ manifest }, () =>
      facts([
        ['adapter', `${manifest.name}@${manifest.version}`],
        ['base', `${manifest.base.name} (${manifest.base.architecture})`],
        ['method', manifest.method.family],
        ['size', bytes(weights.length)],
      ]).concat('\n', operationsOf(manifest.operations)),
    )
    return
  }
  const base = await findBase(registryOf(context), files, flags.base)
  const { manifest, report } = await importAdapter({
    files,
    base,
    name: '@local/inspected',
    version: '0.0.0',
  })
  output.result(
    { manifest, report },
    () => `${understood(manifest, report)}\n\n${operationsOf(manifest.operations)}`,
  )
}

const operationsOf = (operations: { op: string; site: string; rank?: number; scale?: string }[]) =>
  table(
    ['operation', 'site', 'rank', 'scale'],
    operations.map(({ op, site, rank, scale }) => [op, site, rank ?? '-', scale ?? '-']),
  )
