/** `npm run chaos -- --kills 300`: the registry on Node dies by SIGKILL at every step of a publish, and nothing is lost. */
import { parseArgs } from 'node:util'
import { killLoop } from './kill-loop.ts'

const { values } = parseArgs({ options: { kills: { type: 'string', default: '300' } } })
const kills = Number(values.kills)
if (!Number.isInteger(kills) || kills < 1) throw new TypeError(`--kills must be a count`)
const report = await killLoop(kills, (line) => console.error(line))
console.log(JSON.stringify(report, null, 2))
process.exitCode = report.broken.length + report.leftovers.length === 0 ? 0 : 1
