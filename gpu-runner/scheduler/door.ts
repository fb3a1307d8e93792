import { GraftError } from '@graft/sdk/format/errors.ts'
import { createRateMeter } from './rate.ts'

/** Who asks, and how full the queue is; sequences of requests alone, the runner's own work waits beside them. */
export interface Knock {
  tenant: string
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
/** Appointments are spread over more time than the mean says, or chance alone would fill the queue with them. */
const CAUTION = 1.25
const MAX_APPOINTMENTS = 10_000
/** Over which the present rate is measured. */
const WINDOW_MS = 60_000

/** A time at which a caller was told to come again. */
interface Appointment {
  tenant: string
  count: number
  /** Milliseconds, as `now`. */
  at: number
}

/**
 * Room for `maxWaiting` sequences beside the free slots, and as much again that only two may use: a tenant below its
 * share of the queue, so that no other can lock it out, and a caller that comes back when it was told to.
 * Who is refused is told the time at which as many sequences as stand before it, refused ones included, will have left
 * at the present rate; it need not race for a place then, for one is kept.
 */
export function createDoor({ maxWaiting, now }: { maxWaiting: number; now: () => number }): Door {
  let appointments: Appointment[] = []
  let busySince = now()
  let leaving = createRateMeter(WINDOW_MS)

  /** Sequences that leave per second. Before the first has left: one in the time that has passed. */
  const rate = (): number => {
    const passed = Math.min(Math.max(now() - busySince, 1_000), WINDOW_MS)
    return Math.max(1, leaving.count(now())) / (passed / 1_000)
  }

  const dueOf = (tenant: string, count: number): Appointment | undefined =>
    appointments.find((one) => one.tenant === tenant && one.count >= count && one.at <= now())

  /** What lets it in: null when nothing does. */
  function reason({ tenant, count, waiting, freeSlots, tenantWaiting, share }: Knock) {
    const room = maxWaiting + freeSlots
    if (waiting + count <= room) return 'room'
    if (waiting + count > room + maxWaiting) return null
    if (dueOf(tenant, count)) return 'appointment'
    return tenantWaiting + count <= Math.floor(maxWaiting * share) ? 'share' : null
  }

  function refuse({ tenant, count, waiting, freeSlots, share }: Knock): GraftError {
    appointments = appointments.filter(({ at }) => at + GRACE_MS > now())
    const ahead = appointments.reduce((sum, one) => sum + (one.at > now() ? one.count : 0), 0)
    const own = appointments.filter((one) => one.tenant === tenant)
    const places = Math.max(count, waiting + ahead + count - maxWaiting - freeSlots)
    let seconds = Math.ceil((CAUTION * places) / rate())
    // A caller that hammers does not push everybody else back: beyond its share it waits for its last appointment.
    const held = own.reduce((sum, one) => sum + one.count, 0)
    if (
      held + count <= Math.max(count, maxWaiting * share) &&
      appointments.length < MAX_APPOINTMENTS
    )
      appointments.push({ tenant, count, at: now() + seconds * 1_000 })
    else {
      const last = Math.max(now(), ...own.map(({ at }) => at))
      seconds = Math.max(seconds, Math.ceil((last - now()) / 1_000))
    }
    return new GraftError(
      'ERR_OVERLOADED',
      `the runner's queue holds ${waiting} of at most ${maxWaiting} sequences; try again in ${seconds} s`,
      { retryAfter: seconds },
    )
  }

  return {
    knock(knock) {
      if (reason(knock) === null) throw refuse(knock)
    },
    enter(knock) {
      const why = reason(knock)
      if (why === null) throw refuse(knock)
      const due = dueOf(knock.tenant, knock.count)
      if (due) appointments.splice(appointments.indexOf(due), 1)
    },
    left: () => leaving.add(1, now()),
    busy() {
      busySince = now()
      leaving = createRateMeter(WINDOW_MS)
    },
  }
}
