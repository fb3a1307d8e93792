import { wrap } from './text.ts'

/** Shortens a path in its middle: both the component and the last names of a module tell it apart. */
export function shorten(text: string, width: number): string {
  if (text.length <= width) return text
  if (width <= 3) return text.slice(0, Math.max(0, width))
  const head = Math.min(Math.floor((width - 3) / 3), 16)
  return `${text.slice(0, head)}...${text.slice(text.length - (width - 3 - head))}`
}

export interface Column {
  title: string
  /** What becomes of cells where the terminal is too narrow; without it a column keeps its width. */
  fit?: 'shorten' | 'wrap'
  right?: boolean
}

const GAP = 2
/** A fitted column is never narrower: then lines may run over the terminal's edge. */
const LEAST = 12

/** Narrows the widest of the columns that may be, until a line fits. */
function columnWidths(
  columns: readonly Column[],
  rows: readonly string[][],
  width: number,
): number[] {
  const widths = columns.map(({ title }, i) =>
    Math.max(title.length, ...rows.map((row) => row[i]!.length)),
  )
  const total = (): number => widths.reduce((sum, w) => sum + w, GAP * (widths.length - 1))
  while (total() > width) {
    const fitted = columns.flatMap(({ fit }, i) => (fit && widths[i]! > LEAST ? [i] : []))
    if (fitted.length === 0) break
    const widest = fitted.reduce((a, b) => (widths[b]! > widths[a]! ? b : a))
    widths[widest]! -= 1
  }
  return widths
}

/**
 * A header and rows, columns aligned; "" without rows. On a terminal long cells are shortened or wrapped until lines fit; into
 * a pipe (`width` null) everything is written out.
 */
export function fitTable(
  columns: readonly Column[],
  rows: readonly string[][],
  width: number | null,
): string {
  if (rows.length === 0) return ''
  const widths = columnWidths(columns, rows, width ?? Number.POSITIVE_INFINITY)
  const lines = (cells: readonly string[]): string[] => {
    const parts = cells.map((cell, i) =>
      columns[i]!.fit === 'wrap' ? wrap(cell, widths[i]!) : [shorten(cell, widths[i]!)],
    )
    const height = Math.max(...parts.map(({ length }) => length))
    return Array.from({ length: height }, (_, at) =>
      parts
        .map((part, i) => {
          const text = part[at] ?? ''
          return columns[i]!.right ? text.padStart(widths[i]!) : text.padEnd(widths[i]!)
        })
        .join(' '.repeat(GAP))
        .trimEnd(),
    )
  }
  return `${[columns.map(({ title }) => title), ...rows].flatMap(lines).join('\n')}\n`
}

/** Rows of a name and a value, the values aligned and, on a terminal, wrapped under each other. */
export function fitFacts(
  rows: [name: string, value: string | null][],
  width: number | null,
): string {
  const names = Math.max(...rows.map(([name]) => name.length))
  return rows
    .map(([name, value]) => {
      const left = names + GAP
      const room = width === null ? Number.POSITIVE_INFINITY : Math.max(LEAST, width - left)
      const lines = wrap(value ?? '-', room)
      return `${name.padEnd(names)}  ${lines.join(`\n${' '.repeat(left)}`)}\n`
    })
    .join('')
}
