import type { Context } from 'hono'
import { createOpenCalls, type OpenCalls } from './calls/open-calls.ts'
import type { EdgeDeps } from './deps.ts'
import { createRateLimiter, type RateLimiter } from './limits/rate-limiter.ts'
import { createMetrics, type Metrics } from './metrics/metrics.ts'
import { createRegistryClient, type RegistryClient } from './upstream/registry-client.ts'
import { createRunnerClient, type RunnerClient } from './upstream/runner-client.ts'

/** What the routes share: the deps, and what is built from them once. */
export interface EdgeContext extends EdgeDeps {
  registry: RegistryClient
  runners: RunnerClient
  /** Calls open per runner id. */
  open: OpenCalls
  /** Calls open per access token. */
  openByToken: OpenCalls
  rate: RateLimiter
  metrics: Metrics
}

export const createContext = (deps: EdgeDeps): EdgeContext => ({
  ...deps,
  registry: createRegistryClient(deps),
  runners: createRunnerClient({ ...deps, idleMs: deps.limits.runnerIdleMs }),
  open: createOpenCalls(),
  openByToken: createOpenCalls(),
  rate: createRateLimiter(deps.limits.requestsPerMinute, deps.clock),
  metrics: createMetrics(),
})

export interface EdgeEnv {
  Variables: { requestId: string }
}

/** Lets work outlive its response: on Workers an isolate otherwise stops when the client is gone. */
export function keepAlive(c: Context, work: Promise<unknown>): void {
  const settled = work.catch(() => {})
  try {
    c.executionCtx.waitUntil(settled)
  } catch {
    // Only Workers have an execution context; elsewhere the process itself lives on.
  }
}
