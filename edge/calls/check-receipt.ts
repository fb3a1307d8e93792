import { GraftError } from '@graft/sdk/format/errors.ts'
import { verifyCompact } from '@graft/sdk/format/jws.ts'
import type { RunnerReceipt } from '@graft/sdk/protocol/receipts.ts'
import type { GenerateRequest } from '@graft/sdk/protocol/runner-api.ts'
import type { Runner } from '../fleet/fleet.ts'
import type { TokenCounts } from '../ledger/prices.ts'

/**
 * Holds a runner's receipt against what was asked and what came over the wire.
 * @param counted tokens of the frames of this runner
 * @throws ERR_RUNNER_UNTRUSTED naming the first thing that differs
 */
export async function checkRunnerReceipt(
  runner: Runner,
  request: GenerateRequest,
  counted: TokenCounts,
  receipt: string,
): Promise<void> {
  const { id, key } = runner.status
  const untrusted = (what: string, cause?: unknown) =>
    new GraftError(
      'ERR_RUNNER_UNTRUSTED',
      `runner ${id} signed a receipt whose ${what}; nothing was charged`,
      { cause },
    )
  const { payload } = await verifyCompact<RunnerReceipt>(receipt, 'graft-runner-receipt+jws', [
    key,
  ]).catch((cause: unknown) => {
    throw untrusted('signature is not by the key of its heartbeat', cause)
  })
  const asked = request.adapters.map(({ digest, weight }) => ({ digest, weight }))
  const facts: [string, unknown, unknown][] = [
    ['version', payload.v, 1],
    ['request id', payload.requestId, request.requestId],
    ['request hash', payload.requestHash, request.requestHash],
    ['tenant', payload.tenant, request.tenant],
    ['base', payload.base, request.base],
    ['adapters', flat(payload.adapters), flat(asked)],
    ['runner id', payload.runner?.id, id],
    ['prompt tokens', payload.tokens?.prompt, counted.prompt],
    ['cached tokens', payload.tokens?.cached, counted.cached],
    ['completion tokens', payload.tokens?.completion, counted.completion],
  ]
  for (const [what, got, want] of facts)
    if (got !== want) throw untrusted(`${what} is ${String(got)}, not ${String(want)}`)
}

const flat = (adapters: RunnerReceipt['adapters'] | undefined): string =>
  (adapters ?? []).map(({ digest, weight }) => `${weight}(${digest})`).join('+')
