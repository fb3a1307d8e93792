import { join } from 'node:path'
import type { Address } from '../listen.ts'

/** A registry, an edge and a runner that answer, wherever they run. */
export interface Stack {
  registryUrl: string
  edgeUrl: string
  runnerUrl: string
  /** Settles, with what to tell, when a part ends by itself. */
  died: Promise<string>
  /** Drains the runner first, while edge and registry still answer. */
  close(): Promise<void>
}

/** The organisation that runs a local stack and owns the samples. */
export const OPERATOR = 'samples'
/** `iss` of a local stack's access tokens. */
export const ISSUER = 'graft-local'
/** The name under which a local stack's one runner reports. */
export const RUNNER_ID = 'runner-1'

export const checkpointDir = (samplesDir: string): string => join(samplesDir, 'base', 'graft-tiny')

/** A loopback port of a local stack, as listen() takes it. */
export const localPort = (name: string, port: number): Address => ({
  port,
  what: `port ${port} for the ${name}`,
  advice: 'start with --port <another>',
})

export const diedWith = (part: string, ended: Promise<number | null>): Promise<string> =>
  ended.then((code) => `the ${part} ended with exit code ${code}`)
