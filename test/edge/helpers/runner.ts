import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { generateSigningKey, type SigningKey, signCompact, signJwt } from '@graft/sdk/format/jws.ts'
import type { RunnerReceipt } from '@graft/sdk/protocol/receipts.ts'
import type { Frame, GenerateRequest, Heartbeat } from '@graft/sdk/protocol/runner-api.ts'

/** One thing a scripted runner does after it was asked to generate. */
export type Step =
  | Frame
  | { type: 'wait'; ms: number }
  /** Destroys the socket. */
  | { type: 'cut' }
  /** Ends the body without `done`. */
  | { type: 'close' }
  /** A true `done`, with this changed in the receipt. */
  | { type: 'done!'; change?: Partial<RunnerReceipt>; key?: SigningKey }

export interface ScriptedRunner {
  id: string
  url: string
  key: SigningKey
  /** Requests in the order they came. */
  requests: GenerateRequest[]
  /** Bearer tokens in the order they came. */
  tokens: string[]
  /** Milliseconds (performance.now) at which a connection was closed before its answer ended. */
  cancelledAt: number[]
  framesSent: number
  script: (request: GenerateRequest) => Step[] | { status: number; body: unknown }
  heartbeat(): Heartbeat
  close(): Promise<void>
}

/** A runner that speaks the real protocol over a real socket and says what a test tells it to. */
export async function startScriptedRunner(options: {
  id: string
  base: { name: string; digest: Digest }
  script: ScriptedRunner['script']
  maxPositions?: number
  promptTokens?: number
}): Promise<ScriptedRunner> {
  const key = await generateSigningKey()
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = JSON.parse(Buffer.concat(chunks).toString())
    runner.tokens.push(String(request.headers.authorization).slice(7))
    if (request.url === '/v1/count') {
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify({ tokens: options.promptTokens ?? 5 }))
      return
    }
    runner.requests.push(body)
    await play(body, response)
  })
  async function play(request: GenerateRequest, response: ServerResponse): Promise<void> {
    const script = runner.script(request)
    if (!Array.isArray(script)) {
      response.writeHead(script.status, { 'content-type': 'application/json' })
      response.end(JSON.stringify(script.body))
      return
    }
    let over = false
    response.on('close', () => {
      if (!over) runner.cancelledAt.push(performance.now())
      over = true
    })
    const tokens = { prompt: 0, cached: 0, completion: 0 }
    const send = (frame: Frame): void => {
      runner.framesSent++
      response.write(`${JSON.stringify(frame)}\n`)
    }
    response.writeHead(200, { 'content-type': 'application/x-ndjson' })
    response.flushHeaders()
    for (const step of script) {
      if (over) return
      if (step.type === 'wait') await new Promise((resolve) => setTimeout(resolve, step.ms))
      else if (step.type === 'cut') {
        // What was written before is on its way first, as with a process that dies.
        await new Promise((resolve) => setTimeout(resolve, 30))
        over = true
        response.destroy()
      } else if (step.type === 'close') break
      else if (step.type === 'done!') {
        const receipt: RunnerReceipt = {
          v: 1,
          requestId: request.requestId,
          requestHash: request.requestHash,
          tenant: request.tenant,
          base: request.base,
          adapters: request.adapters.map(({ digest, weight }) => ({ digest, weight })),
          mergeState: request.adapters.length > 0 ? 'banked' : 'none',
          tokens,
          finish: 'stop',
          runner: { id: options.id, build: 'scripted' },
          issuedAt: new Date().toISOString(),
          ...step.change,
        }
        const signed = await signCompact(receipt, 'graft-runner-receipt+jws', step.key ?? key)
        send({ type: 'done', tokens: receipt.tokens, receipt: signed })
      } else {
        if (step.type === 'accepted') {
          tokens.prompt = step.promptTokens
          tokens.cached = step.cachedTokens
        }
        if (step.type === 'tokens') tokens.completion += step.tokenIds.length
        send(step)
      }
    }
    over = true
    response.end()
  }
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const runner: ScriptedRunner = {
    id: options.id,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    key,
    requests: [],
    tokens: [],
    cancelledAt: [],
    framesSent: 0,
    script: options.script,
    heartbeat: () => ({
      url: runner.url,
      draining: false,
      status: {
        id: options.id,
        build: 'scripted',
        base: options.base,
        operations: ['low_rank'],
        maxPositions: options.maxPositions ?? 512,
        slots: 8,
        running: 0,
        waiting: 0,
        tokensPerSecond: 10,
        residency: [],
        key: key.publicJwk,
      },
    }),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
  return runner
}

/** Frames of an answer whose text comes in these pieces, one token each, ids from 100. */
export const answerSteps = (pieces: string[], options: { from?: number } = {}): Step[] => [
  { type: 'accepted', promptTokens: 5, cachedTokens: 0 },
  ...tokenSteps(pieces, options.from),
  { type: 'finish', choice: 0, reason: 'stop', stop: null },
  { type: 'done!' },
]

export const tokenSteps = (pieces: string[], from = 0): Step[] =>
  pieces.map((text, i) => ({ type: 'tokens', choice: 0, tokenIds: [100 + from + i], text }))

export async function sendHeartbeat(
  app: { request: (path: string, init: RequestInit) => Response | Promise<Response> },
  fleetKey: SigningKey,
  beat: Heartbeat,
  claims: Record<string, unknown> = {},
): Promise<Response> {
  const iat = Math.floor(Date.now() / 1000)
  const token = await signJwt(
    { iss: beat.status.id, aud: 'edge', role: 'runner', iat, exp: iat + 60, ...claims },
    'graft-fleet+jwt',
    fleetKey,
  )
  return app.request('/v1/fleet/heartbeat', {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify(beat),
  })
}
