import { setTimeout as sleep } from 'node:timers/promises'
import { createInferenceClient } from '@graft/sdk/client/inference-client.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'

const PATIENCE_MS = 20_000

/** Returns once the edge lists the base, which it does after the runner's first heartbeat. */
export async function waitForRunner(edgeUrl: string, token: string, base: string): Promise<void> {
  const client = createInferenceClient({ url: edgeUrl, token })
  const deadline = performance.now() + PATIENCE_MS
  while (performance.now() < deadline) {
    const { data } = await client.models.list()
    if (data.some((model) => model.id === base)) return
    await sleep(100)
  }
  throw new GraftError(
    'ERR_NO_RUNNER',
    `no runner for ${base} reported to the edge within ${PATIENCE_MS / 1000} s`,
  )
}
