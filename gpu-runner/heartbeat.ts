import { type SigningKey, signJwt } from '@graft/sdk/format/jws.ts'
import type { Heartbeat } from '@graft/sdk/protocol/runner-api.ts'
import type { FleetClaims } from '@graft/sdk/protocol/tokens.ts'

export const HEARTBEAT_MS = 2_000
/** Long enough for clocks that differ a little. */
const TOKEN_SECONDS = 60

export interface HeartbeatOptions {
  edgeUrl: string
  fetch: typeof fetch
  fleetKey: SigningKey
  clock: () => Date
  beat: () => Heartbeat
  /** Told when the edge stops answering, and when it answers again. */
  onChange?: (reachable: boolean, why: string) => void
}

export interface Heartbeats {
  /** Sends one now. */
  send(): Promise<void>
  stop(): void
}

/** Tells the edge every two seconds that this runner lives and what it holds. A missed beat is made up by the next. */
export function startHeartbeats(options: HeartbeatOptions): Heartbeats {
  const { edgeUrl, fetch, fleetKey, clock, beat, onChange } = options
  let reachable: boolean | null = null
  const note = (now: boolean, why: string): void => {
    if (reachable !== now) onChange?.(now, why)
    reachable = now
  }
  const send = async (): Promise<void> => {
    const status = beat()
    const iat = Math.floor(clock().getTime() / 1000)
    const { id } = status.status
    const claims: FleetClaims = {
      iss: id,
      aud: 'edge',
      role: 'runner',
      iat,
      exp: iat + TOKEN_SECONDS,
    }
    try {
      const response = await fetch(new URL('/v1/fleet/heartbeat', edgeUrl), {
        method: 'POST',
        headers: {
          authorization: `Bearer ${await signJwt(claims, 'graft-fleet+jwt', fleetKey)}`,
          'content-type': 'application/json',
        },
        body: JSON.stringify(status),
        signal: AbortSignal.timeout(HEARTBEAT_MS * 2),
      })
      await response.arrayBuffer()
      note(response.ok, `the edge answers ${response.status}`)
    } catch (e) {
      note(false, e instanceof Error ? e.message : String(e))
    }
  }
  void send()
  const timer = setInterval(send, HEARTBEAT_MS)
  return { send, stop: () => clearInterval(timer) }
}
