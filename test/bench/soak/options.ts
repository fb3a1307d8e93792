import { parseArgs } from 'node:util'

export interface SoakOptions {
  minutes: number
  /** Requests per second that arrive, in a Poisson stream. */
  rate: number
  seed: number
  /** Most growth of the runner's memory that passes, MiB per hour. */
  bound: number
}

export const USAGE = `npm run soak -- [options]
  --minutes <number>  of traffic                                       (default 60)
  --rate <number>     requests a second; the default leaves about half of two cores free  (default 8)
  --seed <number>     of the traffic                                   (default 1)
  --bound <number>    MiB per hour that resident memory and heap may grow  (default 32)
Growth is judged over runs of 20 minutes or more; shorter ones print it. Exit code 1: a wrong token, or growth.`

/** A slope over less says more about the garbage collector than about the runner. */
export const LEAST_MINUTES_JUDGED = 20

export function parseSoakOptions(args: string[]): SoakOptions | null {
  const { values } = parseArgs({
    args,
    strict: true,
    options: {
      minutes: { type: 'string', default: '60' },
      rate: { type: 'string', default: '8' },
      seed: { type: 'string', default: '1' },
      bound: { type: 'string', default: '32' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return null
  const positive = (name: 'minutes' | 'rate' | 'seed' | 'bound'): number => {
    const value = Number(values[name])
    if (value > 0 && Number.isFinite(value)) return value
    throw new Error(`--${name} must be a positive number, got ${JSON.stringify(values[name])}`)
  }
  return {
    minutes: positive('minutes'),
    rate: positive('rate'),
    seed: positive('seed'),
    bound: positive('bound'),
  }
}
