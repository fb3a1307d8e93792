/** Milliseconds that the work takes, as its caller sees it. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now()
  await work()
  return performance.now() - begin
}

export interface Rounds {
  /** Rounds that fill caches and are not counted. @default 1 */
  warmUp?: number
  least: number
  most: number
  /** No new round after this, once `least` are done. */
  seconds: number
}

/**
 * Runs every arm once a round, each round in the order opposite to the last, so that a busy machine or a past that
 * grows weighs on all of them alike. An arm gives the milliseconds that count.
 */
export async function interleave<Arm extends string>(
  arms: Record<Arm, () => Promise<number>>,
  { warmUp = 1, least, most, seconds }: Rounds,
): Promise<Record<Arm, number[]>> {
  const names = Object.keys(arms) as Arm[]
  const ms = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<Arm, number[]>
  let until = performance.now() + seconds * 1000
  for (let round = -warmUp; round < most; round++) {
    if (round === 0) until = performance.now() + seconds * 1000
    if (round >= least && performance.now() >= until) break
    for (const name of names) {
      const took = await arms[name]()
      if (round >= 0) ms[name].push(took)
    }
    names.reverse()
  }
  return ms
}
