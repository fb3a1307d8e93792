import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { GOALS, type Goal } from './goals.ts'

const USAGE = `node test/bench/write-figures.ts <folder>
  Writes the tables of docs/serving-figures.md from <folder>/<bench>.json (npm run -s bench -- <bench> --json) and
  <folder>/soak.json (npm run -s soak). What the folder lacks is marked as not measured.`

const PAGE = join(import.meta.dirname, '../../docs/serving-figures.md')

type Result = Record<string, unknown>

async function readResult(folder: string, name: string): Promise<Result | null> {
  try {
    return JSON.parse(await readFile(join(folder, `${name}.json`), 'utf8')) as Result
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

function goalText(goal: Goal): string {
  if (goal === null) return 'printed'
  if ('least' in goal) return `>= ${goal.least}`
  return 'most' in goal ? `<= ${goal.most}` : String(goal.is)
}

function reached(goal: Goal, value: unknown): string {
  if (goal === null || value === undefined) return ''
  if ('is' in goal) return value === goal.is ? 'yes' : '**no**'
  if (typeof value !== 'number') return ''
  const ok = 'least' in goal ? value >= goal.least : value <= goal.most
  return ok ? 'yes' : '**no**'
}

const table = (head: string[], rows: string[][]): string =>
  [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')

/** Replaces what stands between `<!-- name -->` and `<!-- /name -->`. @throws when the page lacks the marks */
function between(page: string, name: string, text: string): string {
  const [open, close] = [`<!-- ${name} -->`, `<!-- /${name} -->`]
  const [begin, end] = [page.indexOf(open), page.indexOf(close)]
  if (begin < 0 || end < begin) throw new Error(`${PAGE} must hold ${open} and ${close}`)
  return `${page.slice(0, begin + open.length)}\n${text}\n${page.slice(end)}`
}

async function figures(folder: string): Promise<string> {
  const rows: string[][] = []
  for (const { bench, key, what, goal } of GOALS) {
    const result = await readResult(folder, bench)
    const value = result?.[key]
    const measured = value === undefined || value === null ? 'not measured' : String(value)
    const how = result?.['quick'] ? ' (quick)' : ''
    rows.push([
      `\`${bench}\``,
      `\`${key}\``,
      what,
      goalText(goal),
      measured + how,
      reached(goal, value),
    ])
  }
  return table(['bench', 'key', 'what', 'goal', 'measured', 'reached'], rows)
}

async function soakTable(folder: string): Promise<string> {
  const result = await readResult(folder, 'soak')
  if (!result) return 'Not measured yet.'
  const text = (value: unknown): string =>
    typeof value === 'object' ? JSON.stringify(value) : String(value)
  const memory = result['memory'] as Result
  const rows: [string, unknown][] = [
    ['outcome', result['soak']],
    ['minutes', result['minutes']],
    ['requests by kind', result['requests']],
    ['how they ended', result['ends']],
    ['answer tokens', result['tokens']],
    ['wrong tokens', result['wrong_tokens']],
    ['evictions from the bank', result['evictions']],
    ['loads', result['loads']],
    ['latency of whole answers, ms', result['latency_ms']],
    ['time to first token, ms', result['first_token_ms']],
    ["the runner's share of the machine's CPU", result['cpu_share_of_machine']],
    ['growth after warm-up, MiB per hour', memory['slopes']],
    ['resident memory by the minute, MiB', memory['rss_mib']],
  ]
  return table(
    ['what', 'value'],
    rows.map(([what, value]) => [what, text(value)]),
  )
}

async function machineLine(folder: string): Promise<string> {
  for (const { bench } of GOALS) {
    const machine = (await readResult(folder, bench))?.['machine'] as
      | { cpu: string; cores: number; node: string }
      | undefined
    if (machine) return `Measured on ${machine.cpu}, ${machine.cores} cores, Node ${machine.node}.`
  }
  return 'Nothing measured yet.'
}

const [folder] = process.argv.slice(2)
if (folder === undefined || folder.startsWith('-')) {
  console.error(USAGE)
  process.exitCode = folder === '--help' ? 0 : 2
} else {
  let page = await readFile(PAGE, 'utf8')
  page = between(page, 'machine', await machineLine(folder))
  page = between(page, 'figures', await figures(folder))
  page = between(page, 'soak', await soakTable(folder))
  await writeFile(PAGE, page)
}
