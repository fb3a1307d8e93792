import { detectSource } from '@graft/convert/detect-source.ts'
import { openAdapter } from '@graft/convert/export-adapter.ts'
import type { OpenAdapter } from '@graft/convert/exporter.ts'
import { type ImportReport, importSource } from '@graft/convert/import-adapter.ts'
import type { SourceFormat } from '@graft/convert/source-format.ts'
import { baseDigest } from '@graft/sdk/format/base-identity.ts'
import { type ByteSource, readAll } from '@graft/sdk/format/byte-source.ts'
import { parseManifest } from '@graft/sdk/format/parse-manifest.ts'
import { verifyAdapter } from '@graft/sdk/format/verify-adapter.ts'
import { type BaseFlags, type ChosenBase, chooseBase } from './choose-base.ts'
import { PULLED } from './commands/pull.ts'
import type { CliContext } from './context.ts'
import { nodeHash } from './node-hash.ts'

export interface DetectedAs {
  format: SourceFormat['format']
  /** The tool's name, for people. */
  tool: string
  /** What the files were known by. */
  by: string
}

export interface OpenedAdapter extends OpenAdapter {
  detected: DetectedAs
  size: number
  /** What the import understood; null for Graft's own folders, which say it themselves. */
  report: ImportReport | null
  /** The base that was given or found; null where none was asked for. */
  base: ChosenBase | null
}

/** What each format is known by, never the file's name alone. */
const KNOWN_BY: Record<SourceFormat['format'], (config: string, weights: string) => string> = {
  peft: (config) => `peft_type in ${config}`,
  adapters: (config) => `config and model_type in ${config}`,
  mlx: (config) => `fine_tune_type or lora_parameters in ${config}`,
  gguf: (_, weights) => `the magic number of ${weights}`,
  onnx: (_, weights) => `the identifier TORT in ${weights}`,
  kohya: (_, weights) => `the tensor names in ${weights}`,
  graft: () => `${PULLED.manifest}`,
}

/**
 * An adapter as any tool saved it, or as `graft pull` wrote it, with its operations and tensors. Files are read by ranges.
 * @throws what importSource, verifyAdapter and chooseBase throw
 */
export async function openAnyAdapter(
  context: CliContext,
  files: ReadonlyMap<string, ByteSource>,
  flags: BaseFlags,
): Promise<OpenedAdapter> {
  const [own, weights] = [files.get(PULLED.manifest), files.get(PULLED.weights)]
  if (own && weights) {
    const manifest = parseManifest(await readAll(own))
    await verifyAdapter(manifest, weights, undefined, { createHash: nodeHash })
    // A config alone says nothing of modules: the base that goes with it is the adapter's own, as the registry has it.
    const wanted = flags.base ?? (flags.baseConfig ? await baseDigest(manifest.base) : undefined)
    const base = wanted ? await chooseBase(context, { ...flags, base: wanted }, null) : null
    return {
      ...(await openAdapter(manifest, weights)),
      detected: { format: 'graft', tool: 'Graft', by: KNOWN_BY.graft('', '') },
      size: weights.size,
      report: null,
      base,
    }
  }
  const { manifest, safetensors, report, base, detected } = await importFiles(
    context,
    files,
    flags,
    { name: '@local/adapter', version: '0.0.0' },
  )
  return {
    ...(await openAdapter(manifest, safetensors)),
    detected,
    size: safetensors.size,
    report,
    base,
  }
}

/** Imports what a training tool saved, on the base that the flags or its config name. */
export async function importFiles(
  context: CliContext,
  files: ReadonlyMap<string, ByteSource>,
  flags: BaseFlags,
  named: { name: string; version: string; description?: string; license?: string },
) {
  const { source, detected } = await detectSource(files)
  const { configPath, weightsPath } = detected
  const config = configPath === null ? null : await readAll(files.get(configPath)!)
  const base = await chooseBase(context, flags, config)
  const imported = await importSource({ files, base, ...named, createHash: nodeHash })
  const as: DetectedAs = {
    format: source.format,
    tool: source.tool,
    by: KNOWN_BY[source.format](configPath ?? '', weightsPath),
  }
  return { ...imported, base, detected: as }
}
