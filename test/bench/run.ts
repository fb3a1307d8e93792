import { adaptersDistinct } from './adapters-distinct.ts'
import { adaptersRegistered } from './adapters-registered.ts'
import { baseMemory } from './base-memory.ts'
import type { Bench } from './bench.ts'
import { bottleneck } from './bottleneck.ts'
import { coldAdapter } from './cold-adapter.ts'
import { conformance } from './conformance.ts'
import { format } from './format.ts'
import { machine } from './machine.ts'
import { merge } from './merge.ts'
import { mixedMethods } from './mixed-methods.ts'
import { nf4 } from './nf4.ts'
import { preparePeers } from './prepare-peers.ts'
import { publish } from './publish.ts'
import { resolve } from './resolve.ts'
import { switchSets } from './switch.ts'
import { unused } from './unused.ts'
import { vsLlamaCpp } from './vs-llama-cpp.ts'
import { vsTransformersJs } from './vs-transformers-js.ts'
import { webgpu } from './webgpu.ts'

const BENCHES: Record<string, Bench> = {
  'adapters-distinct': adaptersDistinct,
  'adapters-registered': adaptersRegistered,
  'base-memory': baseMemory,
  bottleneck,
  'cold-adapter': coldAdapter,
  conformance,
  format,
  merge,
  'mixed-methods': mixedMethods,
  nf4,
  publish,
  resolve,
  switch: switchSets,
  unused,
  'vs-llama-cpp': vsLlamaCpp,
  'vs-transformers-js': vsTransformersJs,
  webgpu,
}

const usage = (): string =>
  [
    'npm run bench -- --prepare               installs the peers, once',
    'npm run -s bench -- NAME --json [--quick]',
    ...Object.entries(BENCHES).map(([name, { about }]) => `  ${name.padEnd(20)} ${about}`),
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
  const bench = name !== undefined && Object.hasOwn(BENCHES, name) ? BENCHES[name] : undefined
  if (name !== undefined && !bench) {
    console.error(`there is no bench ${JSON.stringify(name)}\n${usage()}`)
    return 2
  }
  const progress = (line: string) => console.error(line)
  if (args.includes('--prepare')) {
    if (bench) progress(`${name} needs ${bench.needs}`)
    return preparePeers(progress)
  }
  if (!bench) {
    console.log(usage())
    return 0
  }
  const quick = args.includes('--quick')
  const begin = performance.now()
  const result = await bench.run({ quick, progress })
  const seconds = Number(((performance.now() - begin) / 1000).toFixed(1))
  const whole = { bench: name, ...result, quick, machine: machine(), seconds }
  console.log(JSON.stringify(whole, null, args.includes('--json') ? 0 : 2))
  return 0
}

process.exitCode = await main(process.argv.slice(2))
