import { join } from 'node:path'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'

export interface DevOptions {
  /** Run the demo and stop. */
  once: boolean
  /** Everything the stack keeps: catalogue, blobs, ledger, keys, the runner's cache. */
  stateDir: string
  samplesDir: string
  ports: { registry: number; edge: number; runner: number }
  precision: string
}

export const USAGE = `npm start -- [options]
  --once              run the demo, then stop; exit 0 only when everything was right
  --state <folder>    where state lives            (default .graft, or GRAFT_STATE)
  --port <number>     first of three ports: edge, registry, runner  (default 8787, or GRAFT_PORT)
  --precision <name>  fp32, int8, w8a8, int4, nf4 or nf4-exact (default fp32)
  --samples <folder>  base, adapters and goldens   (default infra/samples)
`

export const samplesDir = join(import.meta.dirname, '..', 'samples')

function port(text: string): number {
  const value = Number(text)
  if (Number.isInteger(value) && value > 0 && value < 65_533) return value
  throw new GraftError('ERR_REQUEST_INVALID', expected('--port', 'a port below 65533', text))
}

export function parseOptions(args: string[], env: NodeJS.ProcessEnv): DevOptions {
  let once = false
  let state = env['GRAFT_STATE'] ?? '.graft'
  let first = env['GRAFT_PORT'] ?? '8787'
  let precision = 'fp32'
  let samples = samplesDir
  const rest = [...args]
  const value = (flag: string): string => {
    const next = rest.shift()
    if (next === undefined) throw new GraftError('ERR_REQUEST_INVALID', `${flag} needs a value`)
    return next
  }
  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    if (arg === '--once') once = true
    else if (arg === '--state') state = value(arg)
    else if (arg === '--port') first = value(arg)
    else if (arg === '--precision') precision = value(arg)
    else if (arg === '--samples') samples = value(arg)
    else
      throw new GraftError(
        'ERR_REQUEST_INVALID',
        `${expected('option', 'one of these', arg)}\n${USAGE}`,
      )
  }
  const edge = port(first)
  return {
    once,
    stateDir: state,
    samplesDir: samples,
    ports: { edge, registry: edge + 1, runner: edge + 2 },
    precision,
  }
}
