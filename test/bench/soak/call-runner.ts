import { type SigningKey, signJwt } from '@graft/sdk/format/jws.ts'
import { JWS_TYPES } from '@graft/sdk/format/manifest.ts'
import { requestHash } from '@graft/sdk/protocol/request-hash.ts'
import type { Frame, GenerateRequest } from '@graft/sdk/protocol/runner-api.ts'
import type { FleetClaims } from '@graft/sdk/protocol/tokens.ts'

/** What came back of one request: tokens until it ended, and how it ended. */
export interface Outcome {
  tokens: number[]
  /** Log-probability of each token less that of the next best; null when not asked for. */
  margins: number[]
  /** 'done', 'left' when the caller hung up, else an error code. */
  end: string
  firstTokenMs: number | null
  ms: number
}

export type Ask = Omit<GenerateRequest, 'requestHash' | 'requestId'>

/** Speaks to a runner as an edge does. */
export function createRunnerCaller(url: string, fleetKey: SigningKey, runnerId: string) {
  let count = 0
  let token = { value: '', until: 0 }

  const authorization = async (): Promise<string> => {
    const now = Math.floor(Date.now() / 1000)
    if (token.until < now + 10) {
      const claims: FleetClaims = {
        iss: 'soak',
        aud: runnerId,
        role: 'edge',
        iat: now,
        exp: now + 60,
      }
      token = { value: await signJwt(claims, JWS_TYPES.fleet, fleetKey), until: claims.exp }
    }
    return `Bearer ${token.value}`
  }

  /** @param hangUpAfter tokens after which the connection is closed; null = read to the end */
  async function generate(ask: Ask, hangUpAfter: number | null = null): Promise<Outcome> {
    const request: GenerateRequest = {
      ...ask,
      requestId: `soak-${++count}`,
      requestHash: await requestHash(ask),
    }
    const outcome: Outcome = { tokens: [], margins: [], end: 'cut', firstTokenMs: null, ms: 0 }
    const gone = new AbortController()
    const begin = performance.now()
    try {
      const response = await fetch(`${url}/v1/generate`, {
        method: 'POST',
        headers: { authorization: await authorization(), 'content-type': 'application/json' },
        body: JSON.stringify(request),
        signal: gone.signal,
      })
      if (!response.ok) {
        const { error } = (await response.json()) as { error: { code: string } }
        outcome.end = error.code
        return outcome
      }
      for await (const frame of frames(response)) {
        if (frame.type === 'tokens') {
          outcome.firstTokenMs ??= performance.now() - begin
          outcome.tokens.push(...frame.tokenIds)
          for (const { logprob, id, top } of frame.logprobs ?? [])
            outcome.margins.push(logprob - (top.find((row) => row.id !== id)?.logprob ?? -Infinity))
        }
        if (frame.type === 'done') outcome.end = 'done'
        if (frame.type === 'error') outcome.end = frame.code
        if (hangUpAfter !== null && outcome.tokens.length >= hangUpAfter) {
          outcome.end = 'left'
          break
        }
      }
      return outcome
    } finally {
      gone.abort()
      outcome.ms = performance.now() - begin
    }
  }

  return {
    generate,
    /** Counters and gauges by series, as Prometheus reads them. */
    async metrics(): Promise<Map<string, number>> {
      const text = await (await fetch(`${url}/metrics`)).text()
      const rows = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
      return new Map(
        rows.map((line) => {
          const at = line.lastIndexOf(' ')
          return [line.slice(0, at), Number(line.slice(at + 1))]
        }),
      )
    },
  }
}

export type RunnerCaller = ReturnType<typeof createRunnerCaller>

async function* frames(response: Response): AsyncGenerator<Frame> {
  let held = ''
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    const lines = (held + chunk).split('\n')
    held = lines.pop()!
    for (const line of lines) if (line !== '') yield JSON.parse(line) as Frame
  }
}
