import { importSigningKey, signJwt } from '@graft/sdk/format/jws.ts'
import { JWS_TYPES } from '@graft/sdk/format/manifest.ts'
import type { StepRecord } from '@graft/sdk/protocol/runner-api.ts'
import type { FleetClaims } from '@graft/sdk/protocol/tokens.ts'

/** The engine's step log, asked of the runner as the edge would ask. */
export async function runnerSteps(
  runnerUrl: string,
  fleetKey: JsonWebKey,
  runnerId: string,
): Promise<StepRecord[]> {
  const key = await importSigningKey(fleetKey)
  const now = Math.floor(Date.now() / 1000)
  const claims: FleetClaims = { iss: 'dev', aud: runnerId, role: 'edge', iat: now, exp: now + 60 }
  const token = await signJwt(claims, JWS_TYPES.fleet, key)
  const response = await fetch(`${runnerUrl}/v1/steps?after=0`, {
    headers: { authorization: `Bearer ${token}` },
  })
  if (!response.ok) throw new Error(`the runner answered ${response.status} to /v1/steps`)
  return ((await response.json()) as { steps: StepRecord[] }).steps
}
