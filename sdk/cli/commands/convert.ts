import { basename, join, resolve } from 'node:path'
import { type CastDtype, castAdapter } from '@graft/convert/cast-dtype.ts'
import { exportTo } from '@graft/convert/export-adapter.ts'
import type { Exported, Loss } from '@graft/convert/exporter.ts'
import type { Origin } from '@graft/sdk/format/manifest.ts'
import type { BaseFlags } from '../choose-base.ts'
import type { CliContext } from '../context.ts'
import { openInput, writeFolderAtomically } from '../files.ts'
import { fitFacts, fitTable } from '../fit-table.ts'
import { hashFile } from '../node-hash.ts'
import { type OpenedAdapter, openAnyAdapter } from '../open-adapter.ts'
import { bytes, wrap } from '../text.ts'

export const TARGETS = ['peft', 'adapters', 'gguf', 'mlx', 'kohya', 'onnx'] as const
export type Target = (typeof TARGETS)[number]

export interface ConvertFlags extends BaseFlags {
  to: Target
  out?: string
  dtype?: CastDtype
  force?: boolean
}

/**
 * `graft convert <dir | file> --to <format>`: the author's own files where the adapter came from that tool, else files of the same
 * operations with a report of every loss.
 */
export async function convertCommand(
  context: CliContext,
  path: string,
  flags: ConvertFlags,
): Promise<void> {
  const { output } = context
  await using input = await openInput(path)
  const opened = await openAnyAdapter(context, input.files, flags)
  const { rebuilt, exported } = await convert(opened, flags)
  const folder = flags.out ?? `${nameOf(path)}-${flags.to}`
  await writeFolderAtomically(folder, exported.files, flags.force)
  const files: { path: string; size: number; sha256: string }[] = []
  for (const [name, { size }] of exported.files)
    files.push({ path: name, size, sha256: await hashFile(join(folder, name), () => {}) })
  const { losses, notes } = exported
  output.result(
    {
      from: { ...opened.detected, toolVersion: opened.report?.toolVersion ?? null },
      to: flags.to,
      out: folder,
      files,
      rebuilt,
      lossless: losses.length === 0,
      losses,
      notes,
    },
    () =>
      fitFacts(
        [
          ['from', `${opened.detected.tool} (${opened.detected.by})`],
          ['method', opened.manifest.method.family],
          ['to', `${flags.to}, in ${folder}`],
          ['files', files.map(({ path: name, size }) => `${name} (${bytes(size)})`).join(', ')],
          ['loss', lossOf(rebuilt, losses)],
        ],
        output.width,
      ) + lossTable(losses, output.width),
  )
  for (const note of notes) output.log(indented(`note: ${note}`, output.width))
}

/** A folder's name may hold dots (`sql-1.0.0`); only the endings of weight files are dropped. */
const nameOf = (path: string): string =>
  basename(resolve(path)).replace(/\.(?:safetensors|gguf|onnx_adapter)$/, '')

const indented = (text: string, width: number | null): string =>
  width === null ? text : wrap(text, width - 2).join('\n  ')

/** The adapter's own format gives its author's bytes back, unless they are to be of another dtype. */
async function convert(
  opened: OpenedAdapter,
  { to, dtype }: ConvertFlags,
): Promise<{ rebuilt: boolean; exported: Exported }> {
  const base = opened.base ?? undefined
  const given = base && {
    tensors: base.tensors,
    ...(base.config === undefined ? {} : { config: base.config }),
  }
  const exportContext = given === undefined ? {} : { base: given }
  if (dtype === undefined) {
    const rebuilt = opened.manifest.origin?.format === (to satisfies Origin['format'])
    return { rebuilt, exported: await exportTo(to, opened, exportContext) }
  }
  const cast = await castAdapter(opened, dtype)
  const exported = await exportTo(
    to,
    { manifest: { ...opened.manifest, origin: null }, tensors: cast.adapter.tensors },
    exportContext,
  )
  return { rebuilt: false, exported: { ...exported, losses: [...cast.losses, ...exported.losses] } }
}

function lossOf(rebuilt: boolean, losses: readonly Loss[]): string {
  if (rebuilt) return "none: the author's own files"
  if (losses.length === 0) return 'none: the same operations on the same numbers'
  const modules = new Set(losses.map(({ site }) => site)).size
  const worst = Math.max(...losses.map(({ maxAbsError }) => maxAbsError))
  return `${losses.length} values in ${modules} modules, each wrong by at most ${errorText(worst)}`
}

const errorText = (value: number): string =>
  value < 1e-3 ? value.toExponential(2) : value.toPrecision(3)

/** Modules that lose in the same way share a line, which names the one that loses most. */
function lossTable(losses: readonly Loss[], width: number | null): string {
  const groups = new Map<string, Loss[]>()
  for (const loss of losses) {
    const key = `${loss.field}\n${width === null ? loss.site : ''}\n${loss.what.replace(/-?\d+(?:\.\d+)?(?:e[+-]?\d+)?/g, '#')}`
    groups.set(key, [...(groups.get(key) ?? []), loss])
  }
  const rows = [...groups.values()].map((group) => {
    const worst = group.reduce((a, b) => (b.maxAbsError > a.maxAbsError ? b : a))
    return [worst.site, `${group.length}`, worst.field, worst.what, errorText(worst.maxAbsError)]
  })
  const table = fitTable(
    [
      { title: 'site', fit: 'shorten' },
      { title: 'alike', right: true },
      { title: 'field' },
      { title: 'what became of it', fit: 'wrap' },
      { title: 'max abs error', right: true },
    ],
    rows,
    width,
  )
  return table && `\n${table}`
}
