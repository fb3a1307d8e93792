import { GraftError, isGraftError } from '../format/errors.ts'

/** One abort signal that fires for the caller's abort and for whichever time limit is armed. */
export interface Watch {
  readonly signal: AbortSignal
  /** Replaces the limit in force. */
  arm(ms: number, what: string): void
  disarm(): void
  abort(reason: GraftError): void
  /** What a failed fetch or read really was: a limit, the caller's abort, or a lost connection. */
  explain(e: unknown, where: string): GraftError
}

export function createWatch(caller?: AbortSignal): Watch {
  const own = new AbortController()
  const signal = caller ? AbortSignal.any([caller, own.signal]) : own.signal
  let timer: ReturnType<typeof setTimeout> | undefined
  const disarm = (): void => clearTimeout(timer)
  return {
    signal,
    disarm,
    arm(ms, what) {
      disarm()
      timer = setTimeout(() => {
        const message = `${what} took longer than ${ms} ms; try again or raise the timeout`
        own.abort(new GraftError('ERR_TIMEOUT', message))
      }, ms)
    },
    abort(reason) {
      disarm()
      own.abort(reason)
    },
    explain(e, where) {
      if (own.signal.aborted && isGraftError(own.signal.reason)) return own.signal.reason
      if (caller?.aborted)
        return new GraftError('ERR_CANCELLED', `${where} was cancelled by the caller`)
      return isGraftError(e) ? e : unreachable(e, where)
    },
  }
}

function unreachable(e: unknown, where: string): GraftError {
  const cause = e instanceof Error && e.cause instanceof Error ? e.cause : e
  const code = cause instanceof Error && 'code' in cause ? ` (${String(cause.code)})` : ''
  const message = `${where}: the connection failed${code}; check the URL and that the server is up`
  return new GraftError('ERR_UNREACHABLE', message, { cause: e })
}

/** Waits, or stops waiting when the signal fires. */
export const sleep = (ms: number, signal?: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal?.aborted) return resolve()
    const timer = setTimeout(resolve, ms)
    const stop = (): void => {
      clearTimeout(timer)
      resolve()
    }
    signal?.addEventListener('abort', stop, { once: true })
  })
