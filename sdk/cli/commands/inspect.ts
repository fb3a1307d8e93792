import { type Compatibility, compareBase } from '@graft/sdk/format/base-compatibility.ts'
import type { Origin } from '@graft/sdk/format/manifest.ts'
import type { Operation } from '@graft/sdk/format/operations.ts'
import { type AdapterProofs, adapterProofs } from '@graft/sdk/format/proofs.ts'
import type { BaseFlags } from '../choose-base.ts'
import type { CliContext } from '../context.ts'
import { openInput } from '../files.ts'
import { fitFacts, fitTable } from '../fit-table.ts'
import { type OpenedAdapter, openAnyAdapter } from '../open-adapter.ts'
import type { Output } from '../output.ts'
import { bytes } from '../text.ts'

export interface InspectFlags extends BaseFlags {
  /** Every tensor of the file, not only every module. */
  tensors?: boolean
}

/**
 * `graft inspect <dir | file>`: what was understood of an adapter, what its bytes prove, and how it fits a base; nothing is
 * published.
 */
export async function inspectCommand(
  context: CliContext,
  path: string,
  flags: InspectFlags,
): Promise<void> {
  const { output } = context
  await using input = await openInput(path)
  const opened = await openAnyAdapter(context, input.files, flags)
  const { manifest, report, detected, base } = opened
  const proofs = await adapterProofs(manifest, opened.tensors)
  const compatibility = base && compareBase(manifest, base)
  output.result({ detected, manifest, report, proofs, compatibility }, () =>
    [
      summary(opened, proofs, compatibility, output.width),
      siteTable(manifest.operations, proofs, output.width),
      flags.tensors ? matchTable(proofs, output.width) : '',
    ]
      .filter(Boolean)
      .join('\n'),
  )
  if (!flags.tensors) hint(output, `every tensor and its module: graft inspect ${path} --tensors`)
  if (compatibility === null)
    hint(output, `does it fit a base? graft inspect ${path} --base <name, digest or folder>`)
}

const hint = (output: Output, text: string): void => output.log(text)

type Fact = [name: string, value: string | null]

function summary(
  { manifest, report, detected, size }: OpenedAdapter,
  { matches, sites, fingerprint }: AdapterProofs,
  compatibility: Compatibility | null,
  width: number | null,
): string {
  const zero = sites.filter((one) => one.zero).length
  const counts = new Map<string, number>()
  for (const { op } of sites) counts.set(op, (counts.get(op) ?? 0) + 1)
  const scales = [...new Set(sites.flatMap(({ scale }) => scale ?? []))]
  const { origin } = manifest
  const version = report?.toolVersion ? ` ${report.toolVersion}` : ''
  const rows: Fact[] = [
    ...(report === null ? [['adapter', `${manifest.name}@${manifest.version}`] as Fact] : []),
    ['format', `${detected.tool}${version}, by ${detected.by}`],
    ...(report === null
      ? [
          [
            'origin',
            origin ? `${origin.format} ${origin.toolVersion ?? ''}`.trim() : 'none',
          ] as Fact,
        ]
      : []),
    ['method', [manifest.method.family, ...manifest.method.flags].join(' + ')],
    ['base', `${manifest.base.name} (${manifest.base.architecture})`],
    ...fitOf(compatibility, report !== null),
    [
      'tensors',
      `${new Set(matches.map(({ key }) => key)).size}, each at a module of the base${numbersOf(origin)}`,
    ],
    ['operations', [...counts].map(([kind, count]) => `${count} ${kind}`).join(', ')],
    ['scale', listed(scales)],
    [
      'effect',
      zero === 0
        ? 'every operation may change the output'
        : `${zero} of ${sites.length} operations change nothing`,
    ],
    [
      'parameters',
      manifest.tensors
        .reduce((n, { shape }) => n + shape.reduce((a, b) => a * b, 1), 0)
        .toLocaleString('en-US'),
    ],
    ['size', bytes(size)],
    ['fingerprint', fingerprint],
    ...(report === null
      ? []
      : ([
          ['config without effect', report.inertKeys.join(', ') || 'none'],
          ['files left out', report.ignoredFiles.join(', ') || 'none'],
          ['exports back', report.byteExact ? 'byte for byte' : 'tensor for tensor'],
        ] as Fact[])),
  ]
  return fitFacts(rows, width)
}

/** Scalars beside the weights, like Kohya's alphas, that are read and are no tensors of the adapter. */
const numbersOf = (origin: Origin | null): string =>
  origin?.literals?.length
    ? `, and ${origin.literals.length} small ones beside them that are no weights`
    : ''

const listed = (values: readonly string[]): string | null =>
  values.length === 0
    ? null
    : values.slice(0, 4).join(', ') + (values.length > 4 ? ` and ${values.length - 4} more` : '')

/** A training folder does not say which bytes it was trained on: that its tensors fit is all that can be proven. */
function fitOf(compatibility: Compatibility | null, imported: boolean): Fact[] {
  if (compatibility === null) return []
  const { status, reasons } = compatibility
  const [first, ...rest] = reasons.map(({ what }) => what)
  const same = imported
    ? 'every tensor has its place in it (its folder does not say which bytes it was trained on)'
    : 'the very bytes it was made for'
  return [['fits', `${status}: ${first ?? same}`], ...rest.map((what): Fact => ['', what])]
}

const number = (value: number | null): string => (value === null ? '-' : value.toPrecision(4))

/** What tells operations of one kind at one module apart. */
function kindOf(op: Operation): string {
  if (op.op === 'bottleneck') return `${op.op} ${op.placement}`
  if (op.op === 'scale') return `${op.op} ${op.side}`
  if (op.op === 'replace') return `${op.op} ${op.rows ? `${op.rows.length} rows` : op.param}`
  if (op.op === 'dense') return `${op.op} ${op.form}`
  return op.op
}

const siteTable = (
  operations: readonly Operation[],
  { sites }: AdapterProofs,
  width: number | null,
): string =>
  fitTable(
    [
      { title: 'module', fit: 'shorten' },
      { title: 'operation' },
      { title: 'rank', right: true },
      { title: 'scale', right: true, fit: 'shorten' },
      { title: '|dW|', right: true },
      { title: 'effect' },
    ],
    sites.map(({ site, rank, scale, norm, zero }, i) => [
      site,
      kindOf(operations[i]!),
      rank === null ? '-' : `${rank}`,
      scale ?? '-',
      number(norm),
      zero ? 'none' : 'yes',
    ]),
    width,
  )

const matchTable = ({ matches }: AdapterProofs, width: number | null): string =>
  fitTable(
    [
      { title: 'tensor', fit: 'shorten' },
      { title: 'module', fit: 'shorten' },
      { title: 'operation' },
      { title: 'slot' },
    ],
    matches.map(({ key, site, op, slot }) => [key, site, op, slot]),
    width,
  )
