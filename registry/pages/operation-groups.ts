import type { Operation, OperationKind } from '@graft/sdk/format/operations.ts'

/** Operations that differ only in their place in the model. */
export interface OperationGroup {
  op: OperationKind
  /** `rank 16, scale 2`; what the kind is sized by. */
  size: string
  /** Site with its layers: `model.layers.0-15.self_attn.q_proj`. */
  sites: string[]
  count: number
}

/** One group a kind and size, in the order of the manifest. */
export function groupOperations(operations: readonly Operation[]): OperationGroup[] {
  const groups = new Map<string, { op: OperationKind; size: string; sites: string[] }>()
  for (const operation of operations) {
    const size = sizeOf(operation)
    const key = `${operation.op} ${size}`
    const group = groups.get(key) ?? { op: operation.op, size, sites: [] }
    group.sites.push(operation.site)
    groups.set(key, group)
  }
  return [...groups.values()].map(({ op, size, sites }) => ({
    ...{ op, size, sites: siteRanges(sites), count: sites.length },
  }))
}

function sizeOf(op: Operation): string {
  switch (op.op) {
    case 'low_rank':
    case 'magnitude':
      return `rank ${op.rank}, scale ${op.scale}`
    case 'scale':
      return `on the ${op.side}, ${op.size} values`
    case 'bottleneck':
      return `${op.hidden} to ${op.reduced}, ${op.activation}, ${op.placement.replace('_', ' ')}`
    case 'prefix':
    case 'prompt':
      return `${op.virtualTokens} virtual tokens`
    case 'replace':
      return `${op.param} [${op.shape.join(', ')}]${op.rows ? `, ${op.rows.length} rows` : ''}`
    case 'dense':
      return `${op.form}, ${op.out} by ${op.in}`
    default:
      op satisfies never
      return ''
  }
}

/** Layers of one module written as ranges: q_proj of layers 0, 1, 2 and 5 is `layers.0-2,5.q_proj`. */
export function siteRanges(sites: readonly string[]): string[] {
  const layers = new Map<string, number[]>()
  for (const site of sites) {
    const [number] = /(?<=\.)\d{1,6}(?=\.|$)/.exec(site) ?? []
    const pattern = number === undefined ? site : site.replace(/(?<=\.)\d{1,6}(?=\.|$)/, '\0')
    const known = layers.get(pattern) ?? []
    if (number !== undefined) known.push(Number(number))
    layers.set(pattern, known)
  }
  return [...layers].map(([pattern, numbers]) => pattern.replace('\0', ranges(numbers)))
}

function ranges(numbers: readonly number[]): string {
  const runs: [first: number, last: number][] = []
  for (const n of [...new Set(numbers)].sort((a, b) => a - b)) {
    const run = runs.at(-1)
    if (run && n === run[1] + 1) run[1] = n
    else runs.push([n, n])
  }
  return runs.map(([a, b]) => (a === b ? `${a}` : `${a}-${b}`)).join(',')
}
