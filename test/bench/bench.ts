/** What a bench is asked. */
export interface BenchOptions {
  /** Under a minute on a busy machine. */
  quick: boolean
  /** Progress for people; stdout holds the result alone. */
  progress(line: string): void
}

export interface Bench {
  /** What `--prepare` has to install for it; null when it measures Graft against itself. */
  peer: string | null
  run(options: BenchOptions): Promise<Record<string, unknown>>
}
