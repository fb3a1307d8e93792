import { ERRORS, type ErrorCode, GraftError } from '@graft/sdk/format/errors.ts'
import { type SigningKey, signJwt } from '@graft/sdk/format/jws.ts'
import type { Frame, GenerateRequest, PromptInput } from '@graft/sdk/protocol/runner-api.ts'
import type { FleetClaims } from '@graft/sdk/protocol/tokens.ts'
import type { Runner } from '../fleet/fleet.ts'
import { parseFrame } from './parse-frame.ts'
import { readLines } from './read-lines.ts'

/** Seconds; long enough for clocks that differ a little, short enough that a leaked token is soon worthless. */
const FLEET_TOKEN_SECONDS = 60

export interface RunnerClientOptions {
  fetch: typeof fetch
  fleetKey: SigningKey
  issuerName: string
  clock: () => Date
  /** Milliseconds without a frame after which a runner counts as failed. */
  idleMs: number
}

/** A failure that another runner may not have. */
export class RunnerFailure extends Error {
  override name = 'RunnerFailure'
  readonly code: ErrorCode
  readonly retryable: boolean
  /** Seconds, as the runner said. */
  readonly retryAfter: number | undefined
  constructor(
    code: ErrorCode,
    message: string,
    retryable: boolean,
    options?: ErrorOptions & { retryAfter?: number },
  ) {
    super(message, options)
    this.code = code
    this.retryable = retryable
    this.retryAfter = options?.retryAfter
  }
}

export interface RunnerClient {
  /** @throws RunnerFailure, or GraftError as the runner said */
  count(runner: Runner, prompt: PromptInput): Promise<number>
  /** Frames in order, up to and with `done`. Aborting the signal closes the connection, which cancels the request. */
  generate(runner: Runner, request: GenerateRequest, signal: AbortSignal): AsyncGenerator<Frame>
}

export function createRunnerClient(options: RunnerClientOptions): RunnerClient {
  const { fetch, fleetKey, issuerName, clock, idleMs } = options

  const tokens = new Map<string, { token: string; until: number }>()
  /** A token serves several calls, for the first half of its life. */
  async function tokenFor(id: string): Promise<string> {
    const iat = Math.floor(clock().getTime() / 1000)
    const known = tokens.get(id)
    if (known && iat < known.until) return known.token
    const exp = iat + FLEET_TOKEN_SECONDS
    const claims: FleetClaims = { iss: issuerName, aud: id, role: 'edge', iat, exp }
    const token = await signJwt(claims, 'graft-fleet+jwt', fleetKey)
    tokens.set(id, { token, until: iat + FLEET_TOKEN_SECONDS / 2 })
    return token
  }

  async function post(runner: Runner, path: string, body: unknown, signal: AbortSignal) {
    const token = await tokenFor(runner.status.id)
    const response = await fetch(new URL(path, runner.url), {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
      signal,
    }).catch((cause: unknown) => {
      throw failure(runner, 'cannot be reached', true, cause)
    })
    if (!response.ok) throw await refusal(runner, response)
    return response
  }

  return {
    async count(runner, prompt) {
      const response = await post(runner, '/v1/count', { prompt }, AbortSignal.timeout(idleMs))
      const { tokens } = (await response.json()) as { tokens: unknown }
      if (typeof tokens === 'number' && Number.isSafeInteger(tokens) && tokens >= 0) return tokens
      throw failure(runner, 'counted a prompt as something that is not a number', true)
    },

    async *generate(runner, request, signal) {
      const stop = new AbortController()
      const idle = () =>
        setTimeout(
          () => stop.abort(failure(runner, `sent no frame for ${idleMs} ms`, true)),
          idleMs,
        )
      let timer = idle()
      const both = AbortSignal.any([signal, stop.signal])
      try {
        const response = await post(runner, '/v1/generate', request, both)
        if (!response.body) throw failure(runner, 'answered without a body', true)
        for await (const line of readLines(response.body)) {
          clearTimeout(timer)
          const frame = parseFrame(line)
          if (!frame) throw failure(runner, 'sent a line that is no frame', true)
          yield frame
          if (frame.type === 'done' || frame.type === 'error') return
          timer = idle()
        }
        throw failure(runner, 'closed the connection before the answer was complete', true)
      } catch (error) {
        if (stop.signal.aborted) throw stop.signal.reason
        if (error instanceof RunnerFailure || error instanceof GraftError) throw error
        throw failure(runner, 'broke the connection', true, error)
      } finally {
        clearTimeout(timer)
        stop.abort()
      }
    },
  }
}

const failure = (runner: Runner, what: string, retryable: boolean, cause?: unknown) =>
  new RunnerFailure('ERR_RUNNER_FAILED', `runner ${runner.status.id} ${what}`, retryable, { cause })

/** A runner's status and ErrorBody as a RunnerFailure: what is its own trouble is worth another runner. */
async function refusal(runner: Runner, response: Response): Promise<RunnerFailure> {
  const body = (await response.json().catch(() => null)) as { error?: unknown } | null
  const { code, message } = (body?.error ?? {}) as { code?: string; message?: string }
  if (code === undefined || !Object.hasOwn(ERRORS, code))
    return failure(runner, `answered status ${response.status}`, true)
  const known = code as ErrorCode
  // The edge's own token being refused is the fleet's trouble, never the caller's.
  if (response.status === 401 || response.status === 403)
    return failure(runner, `refused the edge: ${message}`, true)
  const seconds = Number(response.headers.get('retry-after') ?? Number.NaN)
  const options = seconds > 0 ? { retryAfter: Math.ceil(seconds) } : {}
  return new RunnerFailure(known, String(message), response.status >= 500, options)
}
