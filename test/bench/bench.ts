/** What a bench is asked. */
export interface BenchOptions {
  /** Fewer repeats, so that it ends within 55 seconds. */
  quick: boolean
  /** Progress for people; stdout holds the result alone. */
  progress(line: string): void
}

/** One line of the table of figures: it measures, and judges nothing. */
export interface Bench {
  /** One line for the list of benches. */
  about: string
  /** What --prepare installs for it. */
  needs: string
  /** The figures under their agreed keys, then whatever explains them. */
  run(options: BenchOptions): Promise<Record<string, unknown>>
}

/** `needs` of a bench that measures Graft against itself. */
export const NOTHING = 'nothing: weights are seeded and made in memory, no peer is needed'

/** `needs` of a bench against another project. */
export const PEERS = 'the packages of test/bench/peers'
