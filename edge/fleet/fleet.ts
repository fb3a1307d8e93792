import { canonicalJson } from '@graft/sdk/format/canonical-json.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import type { Heartbeat, HeartbeatAnswer } from '@graft/sdk/protocol/runner-api.ts'

/** A runner as its last heartbeat described it. */
export interface Runner extends Heartbeat {
  /** Unix milliseconds of that heartbeat, by the edge's clock. */
  seenAt: number
}

/** Who is alive. Rebuilt from heartbeats alone, so losing it costs two seconds. */
export interface Fleet {
  heartbeat(beat: Heartbeat): Promise<HeartbeatAnswer>
  /** Runners heard of within the ttl and not ejected. */
  runners(): Promise<Runner[]>
  /** Keeps a runner out until it starts with a new key: it said something about a call that was not true. */
  eject(id: string, reason: string): Promise<void>
  /** Receipt keys of every runner heard of, so that a receipt outlives its runner's visit. */
  keys(): Promise<JsonWebKey[]>
  /** What was ejected and why, for the operator. */
  ejected(): Promise<Ejection[]>
}

export interface Ejection {
  id: string
  /** Canonical JSON of the receipt key that signed what was not true. */
  key: string
  reason: string
}

/** Seconds of silence after which a runner is forgotten: five missed heartbeats. */
export const FLEET_TTL_SECONDS = 10

/** The state behind every Fleet: a plain table with no I/O. */
export class FleetTable {
  #runners = new Map<string, Runner>()
  #keys = new Map<string, JsonWebKey>()
  #ejected = new Map<string, Ejection>()

  beat(beat: Heartbeat, now: number): HeartbeatAnswer {
    const { id, key } = beat.status
    const ejected = this.#ejected.get(id)
    if (ejected && ejected.key !== canonicalJson(key)) this.#ejected.delete(id)
    this.#keys.set(canonicalJson(key), key)
    this.#runners.set(id, { ...beat, seenAt: now })
    return { ttl: FLEET_TTL_SECONDS }
  }

  alive(now: number): Runner[] {
    for (const [id, runner] of this.#runners)
      if (now - runner.seenAt > FLEET_TTL_SECONDS * 1000) this.#runners.delete(id)
    return [...this.#runners.values()].filter(({ status }) => !this.#ejected.has(status.id))
  }

  eject(id: string, reason: string): void {
    const key = canonicalJson(this.#runners.get(id)?.status.key ?? null)
    this.#ejected.set(id, { id, key, reason })
  }

  keys(): JsonWebKey[] {
    return [...this.#keys.values()]
  }

  ejected(): Ejection[] {
    return [...this.#ejected.values()]
  }

  /** Brings back the ejections of a table that is gone. */
  restore(ejections: Ejection[]): void {
    for (const ejection of ejections) this.#ejected.set(ejection.id, ejection)
  }
}

/** The fleet of one process. */
export function createFleet(clock: () => Date): Fleet {
  const table = new FleetTable()
  return {
    heartbeat: async (beat) => table.beat(beat, clock().getTime()),
    runners: async () => table.alive(clock().getTime()),
    eject: async (id, reason) => table.eject(id, reason),
    keys: async () => table.keys(),
    ejected: async () => table.ejected(),
  }
}

/** The bases that somebody alive serves, in an order that does not depend on who reported last. */
export function liveBases(runners: Runner[]): { name: string; digest: Digest }[] {
  const bases = new Map(runners.map(({ status }) => [status.base.digest, status.base]))
  return [...bases.values()].sort((a, b) => (a.digest < b.digest ? -1 : 1))
}
