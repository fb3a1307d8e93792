import { createInferenceClient } from '@graft/sdk/client/inference-client.ts'
import { createLedgerClient } from '@graft/sdk/client/ledger-client.ts'
import { createRegistryClient, type RegistryClient } from '@graft/sdk/client/registry-client.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Config } from './config.ts'
import type { Output } from './output.ts'

/** What every command is given. */
export interface CliContext {
  output: Output
  config: Config
  /** Fires at Ctrl-C. */
  signal: AbortSignal
  readStdin(): Promise<string>
}

/** @throws ERR_UNAUTHENTICATED naming how to sign in */
export function requireToken({ config }: CliContext): string {
  if (config.token) return config.token
  throw new GraftError('ERR_UNAUTHENTICATED', 'this needs a token: graft login, or set GRAFT_TOKEN')
}

export const registryOf = ({ config }: CliContext): RegistryClient =>
  createRegistryClient({ url: config.registry, token: config.token })

export const edgeOf = (context: CliContext) =>
  createInferenceClient({ url: context.config.edge, token: requireToken(context) })

export const ledgerOf = (context: CliContext) =>
  createLedgerClient({ url: context.config.edge, token: requireToken(context) })
