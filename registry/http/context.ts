import type { Context } from 'hono'

export interface RegistryEnv {
  Variables: { requestId: string }
}
export type RegistryContext = Context<RegistryEnv>
