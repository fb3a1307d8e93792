import { adaptersDistinct } from './adapters-distinct.ts'

export interface BenchOptions {
  /** Stops after fewer repeats, so that it ends within a minute. */
  quick: boolean
  progress(line: string): void
}

export interface Bench {
  about: string
  /** What --prepare would have to fetch or build. */
  needs: string
  run(options: BenchOptions): Promise<Record<string, unknown>>
}

const BENCHES: Record<string, Bench> = { 'adapters-distinct': adaptersDistinct }

const usage = (): string =>
  [
    'npm run bench -- <name> [--quick] [--json] [--prepare]',
    ...Object.entries(BENCHES).map(([name, { about }]) => `  ${name}  ${about}`),
  ].join('\n')

const FLAGS = ['--quick', '--json', '--prepare']

async function main(args: string[]): Promise<number> {
  const names = args.filter((arg) => !arg.startsWith('--'))
  const strange = args.find((arg) => arg.startsWith('--') && !FLAGS.includes(arg))
  if (strange || names.length > 1) {
    console.error(`unexpected argument ${strange ?? names[1]}\n${usage()}`)
    return 2
  }
  const [name] = names
  if (name === undefined) {
    console.log(usage())
    return 0
  }
  const bench = Object.hasOwn(BENCHES, name) ? BENCHES[name] : undefined
  if (!bench) {
    console.error(`there is no bench ${JSON.stringify(name)}\n${usage()}`)
    return 2
  }
  if (args.includes('--prepare')) {
    console.error(`${name}: ${bench.needs}`)
    return 0
  }
  const result = await bench.run({
    quick: args.includes('--quick'),
    progress: (line) => console.error(line),
  })
  console.log(JSON.stringify(result, null, args.includes('--json') ? 0 : 2))
  return 0
}

process.exitCode = await main(process.argv.slice(2))
