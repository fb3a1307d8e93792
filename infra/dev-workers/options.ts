import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { samplesDir } from '../dev/options.ts'

export interface WorkersOptions {
  /** Run the demo and stop. */
  once: boolean
  stateDir: string
  samplesDir: string
  /** Of the Worker; the runner takes the next one. */
  port: number
  precision: string
}

export const USAGE = `npm run dev:workers -- [options]
  --once              run the demo, then stop; exit 0 only when everything was right
  --state <folder>    where state lives             (default .graft/workers)
  --port <number>     of the Worker; the runner takes the next one  (default 8797)
  --precision <name>  fp32, int8, w8a8, int4, nf4 or nf4-exact (default fp32)
`

const FLAGS = {
  once: { type: 'boolean', default: false },
  state: { type: 'string', default: join('.graft', 'workers') },
  port: { type: 'string', default: '8797' },
  precision: { type: 'string', default: 'fp32' },
} as const

function readFlags(args: string[]) {
  try {
    return parseArgs({ args, options: FLAGS, strict: true }).values
  } catch (cause) {
    const { message } = cause as Error
    throw new GraftError('ERR_REQUEST_INVALID', `${message}\n${USAGE}`, { cause })
  }
}

/** @throws ERR_REQUEST_INVALID with the usage */
export function parseOptions(args: string[]): WorkersOptions {
  const { once, state, port: text, precision } = readFlags(args)
  const port = Number(text)
  if (!Number.isInteger(port) || port < 1 || port > 65_534)
    throw new GraftError('ERR_REQUEST_INVALID', expected('--port', 'a port below 65535', text))
  return { once, stateDir: state, samplesDir, port, precision }
}
