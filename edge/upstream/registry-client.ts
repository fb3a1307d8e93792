import type { Digest } from '@graft/sdk/format/digest.ts'
import { ERRORS, type ErrorCode, GraftError } from '@graft/sdk/format/errors.ts'
import type { OperationKind } from '@graft/sdk/format/operations.ts'
import type { PackageSummary, Resolution } from '@graft/sdk/protocol/registry-api.ts'
import type { Caller } from '../auth/authenticate.ts'

/**
 * Milliseconds for which a resolution is believed: yanks must be seen here in 10 s. A digest's as well: it never means other
 * bytes, but they may be taken away for law, or from this reader.
 */
export const RESOLUTION_KEPT_MS = 8_000
/** A capability is given out again until this close to its end. */
const CAPABILITY_MARGIN_MS = 60_000
/** Entries per cache; the oldest go first. */
const MAX_CACHED = 10_000

/** The registry as one caller sees it; every answer is kept per tenant, never across. */
export interface RegistryClient {
  /** @param abilities what it must fit, null = anything. @throws what the registry says */
  resolve(
    caller: Caller,
    reference: string,
    abilities: { base: Digest; operations: OperationKind[] } | null,
  ): Promise<Resolution>
  capability(caller: Caller, manifest: Digest): Promise<string>
  packages(caller: Caller): Promise<PackageSummary[]>
}

export interface RegistryClientOptions {
  registryUrl: string
  fetch: typeof fetch
  clock: () => Date
}

export function createRegistryClient(options: RegistryClientOptions): RegistryClient {
  const { registryUrl, fetch, clock } = options
  const resolutions = cache<Resolution>(clock)
  const capabilities = cache<string>(clock)

  async function ask<T>(caller: Caller, path: string, init: RequestInit = {}): Promise<T> {
    const headers = { ...init.headers, authorization: `Bearer ${caller.token}` }
    const response = await fetch(new URL(path, registryUrl), { ...init, headers }).catch(
      (cause: unknown) => {
        throw new GraftError('ERR_UNREACHABLE', 'the registry gave no answer; try again shortly', {
          cause,
          retryAfter: 5,
        })
      },
    )
    const body = (await response.json().catch(() => null)) as unknown
    if (response.ok) return body as T
    const { code, message } = ((body as { error?: unknown } | null)?.error ?? {}) as {
      code?: string
      message?: string
    }
    if (code !== undefined && Object.hasOwn(ERRORS, code) && response.status < 500)
      throw new GraftError(code as ErrorCode, String(message))
    throw new GraftError(
      'ERR_UNREACHABLE',
      `the registry answered status ${response.status}; try again shortly`,
      { retryAfter: 5 },
    )
  }

  return {
    resolve(caller, reference, abilities) {
      const query = new URLSearchParams({ ref: reference })
      if (abilities) query.set('base', abilities.base)
      if (abilities) query.set('operations', abilities.operations.join(','))
      return resolutions(`${caller.tenant}\n${query}`, async () => ({
        value: await ask<Resolution>(caller, `/v1/resolve?${query}`),
        until: clock().getTime() + RESOLUTION_KEPT_MS,
      }))
    },
    capability: (caller, manifest) =>
      capabilities(`${caller.tenant}\n${manifest}`, async () => {
        const { token, expiresAt } = await ask<{ token: string; expiresAt: string }>(
          caller,
          '/v1/capabilities',
          {
            method: 'POST',
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify({ manifest }),
          },
        )
        return { value: token, until: Date.parse(expiresAt) - CAPABILITY_MARGIN_MS }
      }),
    async packages(caller) {
      return (await ask<{ packages: PackageSummary[] }>(caller, '/v1/packages')).packages
    },
  }
}

/** Values by key until a time each states; parallel asks for one key share one load, and failures are not kept. */
function cache<T>(clock: () => Date) {
  const known = new Map<string, Promise<{ value: T; until: number }>>()
  return async (key: string, load: () => Promise<{ value: T; until: number }>): Promise<T> => {
    const entry = await known.get(key)?.catch(() => null)
    if (entry && clock().getTime() < entry.until) return entry.value
    const loading = load()
    known.delete(key)
    known.set(key, loading)
    if (known.size > MAX_CACHED) known.delete(known.keys().next().value!)
    try {
      return (await loading).value
    } catch (error) {
      if (known.get(key) === loading) known.delete(key)
      throw error
    }
  }
}
