import { errorResponse, GraftError, isGraftError } from '@graft/sdk/format/errors.ts'

/** Where a command writes. Data goes to stdout, everything else to stderr. */
export interface Output {
  readonly json: boolean
  /** stderr is a terminal: progress may redraw its line. */
  readonly live: boolean
  /** Columns of the terminal, 80 when there is none. */
  readonly columns: number
  /** Columns that a table must fit into; null where stdout is no terminal and nothing is shortened. */
  readonly width: number | null
  /** The one result of a command: an object with --json, else what `human` says. */
  result(value: object, human: () => string): void
  /** Part of a result that comes bit by bit; nothing with --json. */
  write(text: string): void
  /** For people, on stderr; nothing with --quiet. */
  log(text: string): void
  /** Replaces the progress line; only where `live`. */
  progress(text: string): void
  error(e: unknown): void
}

export interface Streams {
  stdout: { write(text: string): unknown; isTTY?: boolean; columns?: number }
  stderr: { write(text: string): unknown; isTTY?: boolean }
  env: Record<string, string | undefined>
}

export function createOutput(
  { stdout, stderr, env }: Streams,
  { json, quiet }: { json: boolean; quiet: boolean },
): Output {
  const live = stderr.isTTY === true && env['TERM'] !== 'dumb' && !json && !quiet
  let drawn = false
  const clear = (): void => {
    if (drawn) stderr.write('\r\u001b[K')
    drawn = false
  }
  return {
    json,
    live,
    columns: stdout.columns ?? 80,
    width: stdout.isTTY === true ? (stdout.columns ?? 80) : null,
    result(value, human) {
      clear()
      stdout.write(json ? `${JSON.stringify(value)}\n` : human())
    },
    write(text) {
      if (json) return
      clear()
      stdout.write(text)
    },
    log(text) {
      if (quiet) return
      clear()
      stderr.write(`${text}\n`)
    },
    progress(text) {
      if (!live) return
      stderr.write(`\r\u001b[K${text}`)
      drawn = true
    },
    error(e) {
      clear()
      const { code, message } = describeError(e)
      if (json) stdout.write(`${JSON.stringify({ error: { code, message } })}\n`)
      else stderr.write(`graft: ${message} (${code})\n`)
    },
  }
}

/** A stranger's error is a defect: its message helps whoever reports it. */
export function describeError(e: unknown): GraftError {
  if (isGraftError(e)) return e
  const { code, message } = errorResponse(e).body.error
  const detail = e instanceof Error ? (e.stack ?? e.message) : String(e)
  return new GraftError(code, `${message}\n${detail}`, { cause: e })
}
