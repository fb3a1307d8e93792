import { GraftError } from '@graft/sdk/format/errors.ts'
import { createRateMeter } from './rate.ts'

/** Who asks, and how full the queue is; sequences of requests alone, the runner's own work waits beside them. */
export interface Knock {
  tenant: string
  weight: number
  /** Same for a request and its repetition: who comes back is known by it. */
  key: string
  /** Sequences it brings. */
  count: number
  waiting: number
  freeSlots: number
  /** Of this tenant. */
  tenantWaiting: number
  /** Part of the queue that is this tenant's, 0..1. */
  share: number
}

/** Lets sequences into the queue, or tells when to come again. */
export interface Door {
  /** @throws ERR_OVERLOADED with the seconds after which there is room */
  knock(knock: Knock): void
  /** As knock, and takes the place: an appointment is kept once. */
  enter(knock: Knock): void
  /** A sequence has left the runner. */
  left(): void
  /** The first sequence runs after a pause: rates are measured from here. */
  busy(): void
}

/** How long an appointment stands after its time: a caller's timer and its way here. */
export const GRACE_MS = 10_000
/** Appointments are spread over more time than the mean says: answers differ in length. */
const CAUTION = 1.25
/** Over which present rates are measured. */
const WINDOW_MS = 60_000
const MAX_APPOINTMENTS = 10_000

/** A time at which a caller was told to come again. */
interface Appointment {
  tenant: string
  weight: number
  count: number
  /** Milliseconds, as `now`. */
  at: number
}

/**
 * Room for `maxWaiting` sequences beside the free slots, and as much again that only two may use: a tenant below its
 * share of the queue, so that no other can lock it out, and a caller that comes back when it was told to.
 * Who is refused gets an appointment: tenants in turn by weight, as fast as sequences leave. Up to half of the queue is
 * kept for appointments, so that a caller who obeys need not race newcomers for its place.
 */
export function createDoor({ maxWaiting, now }: { maxWaiting: number; now: () => number }): Door {
  /** By key, in the order in which they were made. */
  const appointments = new Map<string, Appointment>()
  let busySince = now()
  let leaving = createRateMeter(WINDOW_MS)
  /** Those who came in above the limit because they were below their share. */
  let sharing = createRateMeter(WINDOW_MS)

  const drop = (): void => {
    for (const [key, { at }] of appointments) if (at + GRACE_MS < now()) appointments.delete(key)
  }

  /** Places a second for appointments. Before the first sequence has left: one in the time that has passed. */
  function rate(): number {
    const passed = Math.min(Math.max(now() - busySince, 1_000), WINDOW_MS) / 1_000
    const gone = Math.max(1, leaving.count(now()))
    return Math.max(gone / 5, gone - sharing.count(now())) / passed
  }

  function reason(knock: Knock): 'room' | 'appointment' | 'share' | null {
    const { key, count, waiting, freeSlots, tenantWaiting, share } = knock
    const own = appointments.get(key)
    let others = own ? -own.count : 0
    for (const one of appointments.values()) others += one.count
    const kept = Math.min(others, Math.floor(maxWaiting / 2))
    const room = maxWaiting + freeSlots
    if (waiting + count <= room - kept) return 'room'
    if (waiting + count > room + maxWaiting) return null
    if (own && own.at <= now() && own.count >= count) return 'appointment'
    return tenantWaiting + count <= Math.floor(maxWaiting * share) ? 'share' : null
  }

  /** After the tenant's last one, at its part of the rate; it pushes back its own alone. */
  function appoint({ tenant, weight, count, waiting, freeSlots }: Knock): number {
    const weights = new Map([[tenant, weight]])
    let last = now()
    for (const one of appointments.values()) {
      if (!weights.has(one.tenant)) weights.set(one.tenant, one.weight)
      if (one.tenant === tenant) last = Math.max(last, one.at)
    }
    const all = [...weights.values()].reduce((sum, one) => sum + one, 0)
    const excess = Math.max(0, waiting + count - maxWaiting - freeSlots) / rate()
    const turn = (CAUTION * count * all) / (weight * rate())
    return Math.max(now() + excess * 1_000, last) + turn * 1_000
  }

  function refuse(knock: Knock): GraftError {
    const { key, tenant, weight, count, waiting } = knock
    drop()
    const known = appointments.get(key)
    const stands = known && known.at > now() && known.count >= count
    const seconds = Math.max(1, Math.ceil(((stands ? known.at : appoint(knock)) - now()) / 1_000))
    if (!stands && appointments.size < MAX_APPOINTMENTS)
      appointments.set(key, { tenant, weight, count, at: now() + seconds * 1_000 })
    return new GraftError(
      'ERR_OVERLOADED',
      `the runner's queue holds ${waiting} of at most ${maxWaiting} sequences; try again in ${seconds} s`,
      { retryAfter: seconds },
    )
  }

  return {
    knock(knock) {
      drop()
      if (reason(knock) === null) throw refuse(knock)
    },
    enter(knock) {
      drop()
      const why = reason(knock)
      if (why === null) throw refuse(knock)
      appointments.delete(knock.key)
      if (why === 'share') sharing.add(knock.count, now())
    },
    left: () => leaving.add(1, now()),
    busy() {
      busySince = now()
      leaving = createRateMeter(WINDOW_MS)
      sharing = createRateMeter(WINDOW_MS)
    },
  }
}
