import { type SigningKey, signJwt, verifyCompact } from '@graft/sdk/format/jws.ts'
import type { RunnerReceipt } from '@graft/sdk/protocol/receipts.ts'
import type { Frame } from '@graft/sdk/protocol/runner-api.ts'

/** Speaks to the runner `r1` as an edge of its fleet. */
export function createFleetCaller(
  runner: () => { fetch(request: Request): Promise<Response> },
  key: SigningKey,
) {
  const token = (claims: Record<string, unknown> = {}): Promise<string> => {
    const iat = Math.floor(Date.now() / 1000)
    const all = { iss: 'edge', aud: 'r1', role: 'edge', iat, exp: iat + 60, ...claims }
    return signJwt(all, 'graft-fleet+jwt', key)
  }
  return {
    token,
    async ask(method: string, path: string, body?: unknown, signal?: AbortSignal) {
      const init = {
        method,
        headers: { authorization: `Bearer ${await token()}` },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        ...(signal ? { signal } : {}),
      }
      return runner().fetch(new Request(`http://runner${path}`, init))
    },
  }
}

/** All frames of an answer; a refusal is thrown as its ErrorBody. */
export async function framesOf(response: Response): Promise<Frame[]> {
  const text = await response.text()
  if (!response.ok) throw JSON.parse(text).error
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Frame)
}

/** The receipt of an answer that was given to its end; another end is thrown as its frame. */
export async function receiptOf(frames: Frame[], runnerKey: SigningKey): Promise<RunnerReceipt> {
  const done = frames.at(-1)!
  if (done.type !== 'done') throw done
  const { payload } = await verifyCompact<RunnerReceipt>(done.receipt, 'graft-runner-receipt+jws', [
    runnerKey.publicJwk,
  ])
  return payload
}
