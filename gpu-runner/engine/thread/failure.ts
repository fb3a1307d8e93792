import { GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import type { Failure } from './messages.ts'

/** An error as it crosses to another thread; a defect takes its stack along. */
export const failureOf = (error: unknown): Failure =>
  isGraftError(error)
    ? { code: error.code, message: error.message }
    : {
        code: null,
        message: error instanceof Error ? (error.stack ?? error.message) : String(error),
      }

export const errorOf = ({ code, message }: Failure): Error =>
  code ? new GraftError(code, message) : new Error(message)
