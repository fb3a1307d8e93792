/** A sequence as the queue sees it. */
export interface Claim {
  id: number
  tenant: string
  /** Share of the tenant beside others, > 0; the newest claim's counts. */
  weight: number
  /** What it runs with: adapters of a tenant share what the tenant gets, equally. */
  flow: string
  promptTokens: number
  /** Most tokens that may follow. */
  maxTokens: number
}

/** Decides who gets the next slot, and keeps the books of who got how many tokens. */
export interface FairShares {
  join(claim: Claim): void
  /** Takes the claim that is next out of the queue; null when none waits. */
  next(): Claim | null
  /** Tokens that a claim with a slot was given. */
  feed(id: number, tokens: number): void
  /** The claim has left, waiting or not. */
  leave(id: number): void
  waitingOf(tenant: string): number
  /** Part of all weights of tenants with work that this one has, with `weight` if it has no work yet. */
  shareOf(tenant: string, weight: number): number
}

/** Tokens taken for an answer while nothing is known of a tenant's answers. */
const FIRST_ANSWER = 32
/** How fast the mean length of a tenant's answers follows new ones. */
const MEMORY = 0.2
/** Tenants, and adapters of one, that are remembered without work. */
const MAX_REMEMBERED = 10_000

/** A queue of claims that is served as one: a tenant's adapter. */
interface Flow {
  tag: number
  queue: Claim[]
  working: number
}

interface Tenant {
  weight: number
  tag: number
  /** Virtual time between its flows. */
  time: number
  flows: Map<string, Flow>
  waiting: number
  working: number
  meanAnswer: number
}

interface Account {
  claim: Claim
  waits: boolean
  /** Tokens charged and not fed yet. */
  prepaid: number
  fed: number
}

/**
 * Start-time fair queueing (Goyal, Vin, Cheng 1996) at two levels: tenants by weight, adapters within a tenant.
 * Each has a tag: tokens it was given over its weight. The lowest tag is next, and virtual time is the tag of who was
 * last. Who starts to wait is lifted to virtual time: having been idle is no claim on the future.
 * A sequence is charged its prompt and an answer of its tenant's usual length when it gets its slot, more as it goes
 * on, and gets back at its end what it did not use.
 *
 * Bound. S slots, P tokens of the longest sequence (prompt and answer), N tenants with work of total weight W, and a
 * tenant of weight w with M adapters waiting. Its oldest sequence of any adapter gets a slot before the engine has fed
 *     S * P * ((2M - 1) * W / w + N - 1)
 * tokens to others after it came, which is the S-th part of it in steps, as every step feeds each open sequence.
 * Why: a tenant's tag is at most S * P / w above virtual time, since no more than S sequences of it are open; others are
 * let in only while their tag is lower, and overshoot by the S sequences that they may hold: S * P tokens each.
 */
export function createFairShares(): FairShares {
  const tenants = new Map<string, Tenant>()
  const accounts = new Map<number, Account>()
  let time = 0

  function tenantOf({ tenant: name, weight }: Claim): Tenant {
    const known = tenants.get(name)
    if (known) {
      known.weight = weight
      return known
    }
    const fresh: Tenant = {
      weight,
      tag: 0,
      time: 0,
      flows: new Map(),
      waiting: 0,
      working: 0,
      meanAnswer: FIRST_ANSWER,
    }
    tenants.set(name, fresh)
    forget(tenants)
    return fresh
  }

  function flowOf(tenant: Tenant, name: string): Flow {
    const known = tenant.flows.get(name)
    if (known) return known
    const fresh = { tag: 0, queue: [], working: 0 }
    tenant.flows.set(name, fresh)
    forget(tenant.flows)
    return fresh
  }

  function charge(tenant: Tenant, flow: Flow, tokens: number): void {
    tenant.tag += tokens / tenant.weight
    flow.tag += tokens
  }

  /** Never below virtual time: what was reserved and not used is no claim on the past either. */
  function refund(tenant: Tenant, flow: Flow, tokens: number): void {
    tenant.tag = Math.max(tenant.tag - tokens / tenant.weight, Math.min(tenant.tag, time))
    flow.tag = Math.max(flow.tag - tokens, Math.min(flow.tag, tenant.time))
  }

  return {
    join(claim) {
      const tenant = tenantOf(claim)
      const flow = flowOf(tenant, claim.flow)
      if (tenant.waiting === 0) tenant.tag = Math.max(tenant.tag, time)
      if (flow.queue.length === 0) flow.tag = Math.max(flow.tag, tenant.time)
      flow.queue.push(claim)
      tenant.waiting++
      tenant.working++
      flow.working++
      accounts.set(claim.id, { claim, waits: true, prepaid: 0, fed: 0 })
    },
    next() {
      const tenant = lowest(tenants.values(), (one) => one.waiting > 0)
      if (!tenant) return null
      const flow = lowest(tenant.flows.values(), ({ queue }) => queue.length > 0)!
      const claim = flow.queue.shift()!
      const account = accounts.get(claim.id)!
      time = tenant.tag
      tenant.time = flow.tag
      tenant.waiting--
      account.waits = false
      account.prepaid = claim.promptTokens + Math.min(claim.maxTokens, tenant.meanAnswer)
      charge(tenant, flow, account.prepaid)
      return claim
    },
    feed(id, tokens) {
      const account = accounts.get(id)
      if (!account) return
      account.fed += tokens
      const paid = Math.min(account.prepaid, tokens)
      account.prepaid -= paid
      const tenant = tenants.get(account.claim.tenant)!
      if (tokens > paid) charge(tenant, tenant.flows.get(account.claim.flow)!, tokens - paid)
    },
    leave(id) {
      const account = accounts.get(id)
      if (!account) return
      accounts.delete(id)
      const { claim, waits, prepaid, fed } = account
      const tenant = tenants.get(claim.tenant)!
      const flow = tenant.flows.get(claim.flow)!
      tenant.working--
      flow.working--
      if (waits) {
        tenant.waiting--
        flow.queue.splice(flow.queue.indexOf(claim), 1)
        return
      }
      refund(tenant, flow, prepaid)
      const answer = Math.max(0, fed - claim.promptTokens)
      if (claim.maxTokens > 0) tenant.meanAnswer += MEMORY * (answer - tenant.meanAnswer)
    },
    waitingOf: (tenant) => tenants.get(tenant)?.waiting ?? 0,
    shareOf(tenant, weight) {
      let all = tenants.get(tenant)?.working ? 0 : weight
      for (const other of tenants.values()) if (other.working > 0) all += other.weight
      return weight / all
    },
  }
}

/** The lowest tag of those that may be chosen; of equals the one that was there first. */
function lowest<T extends { tag: number }>(all: Iterable<T>, may: (one: T) => boolean): T | null {
  let found: T | null = null
  for (const one of all) if (may(one) && (!found || one.tag < found.tag)) found = one
  return found
}

/** Drops those without work once there are too many; they lose their lead, nobody loses a claim. */
function forget(all: Map<string, { working: number }>): void {
  if (all.size <= MAX_REMEMBERED) return
  const newest = [...all.keys()].at(-1)
  for (const [name, { working }] of all) if (working === 0 && name !== newest) all.delete(name)
}
