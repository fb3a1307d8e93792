/**
 * `npm test`: formatter and linter, both type checks, every vitest file; one closing line with the counts.
 * `npm test -- path ...` narrows vitest to some files.
 */
import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { softwareVulkan } from './software-vulkan.ts'

const root = join(import.meta.dirname, '..')
const bin = (name: string) => join(root, 'node_modules', '.bin', name)

/** The tests of the engine on WebGPU run where a software Vulkan is installed, and say so where it is not. */
const env = { ...process.env, ...softwareVulkan() }

const run = (command: string, args: string[]): Promise<number> =>
  new Promise((resolve) => {
    console.error(`\n> ${[command.split('/').at(-1), ...args].join(' ')}`)
    const child = spawn(command, args, { cwd: root, stdio: 'inherit', env })
    child.on('error', () => resolve(127))
    child.on('close', (code) => resolve(code ?? 1))
  })

interface Counts {
  numPassedTests: number
  numFailedTests: number
  numPendingTests: number
  numFailedTestSuites: number
}

let passed = 0
let failed = 0
let skipped = 0
const check = async (command: string, args: string[]) => {
  if ((await run(bin(command), args)) === 0) passed++
  else failed++
}

await check('biome', ['check', '.'])
await check('tsc', ['-p', 'tsconfig.json'])
await check('tsc', ['-p', 'tsconfig.workers.json'])

const folder = await mkdtemp(join(tmpdir(), 'graft-test-'))
const report = join(folder, 'vitest.json')
const exit = await run(bin('vitest'), [
  'run',
  '--reporter=default',
  '--reporter=json',
  `--outputFile.json=${report}`,
  ...process.argv.slice(2),
])
const counts = await readFile(report, 'utf8').then(
  (text) => JSON.parse(text) as Counts,
  () => null,
)
await rm(folder, { recursive: true })
if (counts) {
  passed += counts.numPassedTests
  // A file that fails to load has no failed test of its own; it still fails the run.
  failed += Math.max(counts.numFailedTests, exit === 0 ? 0 : 1)
  skipped += counts.numPendingTests
} else failed++

console.log(`${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`)
process.exit(failed === 0 ? 0 : 1)
