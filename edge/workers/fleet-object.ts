import { DurableObject } from 'cloudflare:workers'
import type { Heartbeat, HeartbeatAnswer } from '@graft/sdk/protocol/runner-api.ts'
import { type Ejection, type Fleet, FleetTable, type Runner } from '../fleet/fleet.ts'

const EJECTIONS = 'ejections'
/** Milliseconds for which an isolate believes its last look at the fleet; runners report every two seconds. */
const LOOK_MS = 1_000

/** The fleet of every isolate. Heartbeats rebuild who lives; only ejections must outlive an eviction. */
export class FleetObject extends DurableObject {
  readonly #table = new FleetTable()

  constructor(state: DurableObjectState, env: Cloudflare.Env) {
    super(state, env)
    state.blockConcurrencyWhile(async () => {
      this.#table.restore((await state.storage.get<Ejection[]>(EJECTIONS)) ?? [])
    })
  }

  async heartbeat(beat: Heartbeat): Promise<HeartbeatAnswer> {
    const before = this.#table.ejected().length
    const answer = this.#table.beat(beat, Date.now())
    if (this.#table.ejected().length !== before)
      await this.ctx.storage.put(EJECTIONS, this.#table.ejected())
    return answer
  }

  async eject(id: string, reason: string): Promise<void> {
    this.#table.eject(id, reason)
    await this.ctx.storage.put(EJECTIONS, this.#table.ejected())
  }

  async look(): Promise<{ runners: Runner[]; keys: JsonWebKey[]; ejected: Ejection[] }> {
    const runners = this.#table.alive(Date.now())
    return { runners, keys: this.#table.keys(), ejected: this.#table.ejected() }
  }
}

/** The fleet as one isolate sees it. */
export function durableFleet(namespace: DurableObjectNamespace<FleetObject>): Fleet {
  type Look = Awaited<ReturnType<FleetObject['look']>>
  const object = () => namespace.get(namespace.idFromName('fleet'))
  let last: { look: Promise<Look>; at: number } | null = null
  function look(): Promise<Look> {
    if (last && Date.now() - last.at < LOOK_MS) return last.look
    const asked = { look: object().look() as Promise<Look>, at: Date.now() }
    last = asked
    asked.look.catch(() => {
      if (last === asked) last = null
    })
    return asked.look
  }
  return {
    heartbeat: async (beat) => (await object().heartbeat(beat)) as HeartbeatAnswer,
    runners: async () => (await look()).runners,
    async eject(id, reason) {
      await object().eject(id, reason)
      last = null
    },
    keys: async () => (await look()).keys,
    ejected: async () => (await look()).ejected,
  }
}
