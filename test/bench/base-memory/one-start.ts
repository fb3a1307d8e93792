/** Opens a prepared base in this process, answers a prompt and prints what memory that took. */
import { readFileSync } from 'node:fs'
import { openEngine, parsePrecision } from '@graft/runner/engine/open-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'

/** Bytes, but for ms. */
export interface Memory {
  resident: number
  peak: number
  ms: number
}

/** Of /proc/self/status, in bytes. */
function status(field: 'VmRSS' | 'VmHWM'): number {
  const found = new RegExp(`${field}:\\s+(\\d+) kB`).exec(readFileSync('/proc/self/status', 'utf8'))
  if (!found) throw new Error(`no ${field}: this bench needs Linux`)
  return Number(found[1]) * 1024
}

const [checkpointDir, precision, preparedDir] = process.argv.slice(2) as [string, string, string]
const begin = performance.now()
const engine = await openEngine({
  checkpointDir,
  preparedDir,
  precision: parsePrecision(precision),
  baseDigest: fromHex('b'.repeat(64)),
  slots: 4,
})
await engine.open(1, [])
const tokenIds = Array.from({ length: 64 }, (_, i) => i)
await engine.step([{ sequence: 1, tokenIds, logits: 'last' }])
const ms = performance.now() - begin
for (let i = 0; i < 8; i++) await engine.step([{ sequence: 1, tokenIds: [i], logits: 'last' }])
const memory: Memory = { resident: status('VmRSS'), peak: status('VmHWM'), ms }
await engine[Symbol.asyncDispose]()
console.log(JSON.stringify(memory))
