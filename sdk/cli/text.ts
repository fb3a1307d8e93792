import { MAX_NANOS, NANOS_PER_UNIT } from '@graft/sdk/protocol/ledger.ts'

/** "1.4 MB": decimal units, as disks and networks are sold. */
export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB']
  let value = count
  let unit = 0
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000
    unit++
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 2 : 1)} ${units[unit]}`
}

/** Nano-units as a decimal, exactly: "0.0000125 USD". */
export function money(nanos: number, currency: string): string {
  const whole = BigInt(nanos)
  const unit = BigInt(NANOS_PER_UNIT)
  const sign = whole < 0n ? '-' : ''
  const abs = whole < 0n ? -whole : whole
  const fraction = String(abs % unit)
    .padStart(9, '0')
    .replace(/0+$/, '')
  return `${sign}${abs / unit}${fraction ? `.${fraction}` : ''} ${currency}`
}

/** "2.5" to nano-units, exactly; null when it is no positive amount that fits. */
export function parseMoney(text: string): number | null {
  const match = /^(\d+)(?:\.(\d{1,9}))?$/.exec(text)
  if (!match) return null
  const nanos = BigInt(match[1]! + (match[2] ?? '').padEnd(9, '0'))
  return nanos > 0n && nanos <= BigInt(MAX_NANOS) ? Number(nanos) : null
}

/** Rows of a name and a value, the values aligned. */
export function facts(rows: [name: string, value: string | number | null][]): string {
  const width = Math.max(...rows.map(([name]) => name.length))
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value ?? '-'}\n`).join('')
}

/** A header and rows, columns aligned; "" when there are no rows. */
export function table(header: string[], rows: (string | number)[][]): string {
  if (rows.length === 0) return ''
  const all = [header, ...rows.map((row) => row.map(String))]
  const widths = header.map((_, i) => Math.max(...all.map((row) => row[i]!.length)))
  return all
    .map((row) => `${row.map((cell, i) => cell.padEnd(widths[i]!)).join('  ')}`.trimEnd())
    .join('\n')
    .concat('\n')
}

/** Breaks text at spaces to lines of at most `width` characters. */
export function wrap(text: string, width: number): string[] {
  return text.split('\n').flatMap((line) => {
    const lines: string[] = []
    let rest = line
    while (rest.length > width) {
      const space = rest.lastIndexOf(' ', width)
      const at = space > 0 ? space : width
      lines.push(rest.slice(0, at))
      rest = rest.slice(space > 0 ? at + 1 : at)
    }
    return [...lines, rest]
  })
}

/** Two titled texts side by side. */
export function sideBySide(
  left: { title: string; text: string },
  right: { title: string; text: string },
  columns: number,
): string {
  const width = Math.max(20, Math.floor((columns - 3) / 2))
  const head = (title: string): string[] => [title.slice(0, width), '-'.repeat(width)]
  const a = [...head(left.title), ...wrap(left.text, width)]
  const b = [...head(right.title), ...wrap(right.text, width)]
  const lines = Array.from({ length: Math.max(a.length, b.length) }, (_, i) =>
    `${(a[i] ?? '').padEnd(width)} | ${b[i] ?? ''}`.trimEnd(),
  )
  return `${lines.join('\n')}\n`
}
