import { NANOS_PER_UNIT } from '@graft/sdk/protocol/ledger.ts'
import type { DemoReport } from './demo.ts'

const short = (text: string, width: number): string => {
  const line = JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"')
  return line.length > width ? `${line.slice(0, width - 3)}...` : line
}

const money = (nanos: number, currency: string): string =>
  `${(nanos / NANOS_PER_UNIT).toFixed(9)} ${currency}`

/** The demo's results for a terminal: answers beside the base's, the mixed step, receipts, balances. */
export function formatReport(report: DemoReport): string {
  const lines: string[] = ['', 'Answers (adapter beside what the base alone says)']
  for (const { call, text } of report.answers) {
    const verdict = call.expected === null ? ' ' : text === call.expected ? 'right' : 'WRONG'
    lines.push(
      `  ${call.tenant.padEnd(8)}${call.model}`,
      `    prompt   ${short(call.prompt, 96)}`,
      `    adapter  ${short(text, 88)}  [${verdict}]`,
      `    base     ${short(report.baseText.get(call.prompt) ?? '', 96)}`,
    )
  }
  const step = report.mixedStep
  if (step) {
    lines.push(
      '',
      `Engine step ${step.step}: ${step.rows.length} rows in one batch, ${step.ms.toFixed(1)} ms`,
    )
    for (const row of step.rows) {
      const what = row.adapters.map((digest) => digest.slice(0, 19)).join(' + ') || 'base alone'
      lines.push(
        `  ${row.tenant.padEnd(8)}${what.padEnd(22)}${row.tokens} token${row.tokens === 1 ? '' : 's'}`,
      )
    }
  }
  lines.push('', 'Receipts (runner signed, edge countersigned, verified here)')
  for (const { call, receipt, runner } of report.answers) {
    const { prompt, completion } = receipt.billed
    lines.push(
      `  ${call.tenant.padEnd(8)}${receipt.requestId.slice(0, 16).padEnd(18)}` +
        `${(runner.adapters[0]?.digest ?? 'base').slice(0, 19).padEnd(21)}` +
        `${prompt} + ${completion} tokens  ${money(receipt.charged, receipt.currency)}`,
    )
  }
  lines.push('', 'Balances (re-derived from the ledger)')
  for (const [i, balance] of report.balances.entries()) {
    const { available, held, spent, currency, tenant } = balance
    lines.push(
      `  ${tenant.padEnd(8)}available ${money(available, currency)}  held ${held}  spent ${money(spent, currency)}` +
        `  ${report.books[i]!.entries} entries`,
    )
  }
  lines.push('')
  for (const problem of report.problems) lines.push(`  PROBLEM ${problem}`)
  const right = report.answers.filter(({ call, text }) => text === call.expected).length
  lines.push(
    `${right} of ${report.answers.length} answers exactly right, ` +
      `${report.answers.length} receipts verified, ${report.books.length} books balance, ` +
      `${report.problems.length} problem${report.problems.length === 1 ? '' : 's'}`,
  )
  return lines.join('\n')
}
