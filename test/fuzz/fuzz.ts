/** `npm run -s fuzz -- --requests 20000 --seed 1`: hostile requests to every route of the registry, and what they found. */
import { parseArgs } from 'node:util'
import { fuzzOnNode } from './on-node.ts'

const { values } = parseArgs({
  options: {
    requests: { type: 'string', default: '20000' },
    seed: { type: 'string', default: '1' },
    slow: { type: 'string', default: '1000' },
  },
})
const [requests, seed, slow] = [values.requests, values.seed, values.slow].map(Number)
if (![requests, seed, slow].every(Number.isSafeInteger))
  throw new TypeError('--requests, --seed and --slow (ms) must be whole numbers')
const report = await fuzzOnNode({ requests: requests!, seed: seed!, slow: slow! })
console.log(JSON.stringify(report, null, 2))
process.exitCode = report.broken.length === 0 ? 0 : 1
