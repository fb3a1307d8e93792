/** Progress goes to stderr, results to stdout, so that a pipe sees only results. */
const started = performance.now()

export const progress = (message: string): void => {
  const seconds = ((performance.now() - started) / 1000).toFixed(1).padStart(6)
  process.stderr.write(`[${seconds}s] ${message}\n`)
}

export const print = (text = ''): void => {
  process.stdout.write(`${text}\n`)
}
