import { ERRORS } from '@graft/sdk/format/errors.ts'
import type { Frame } from '@graft/sdk/protocol/runner-api.ts'

const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0

/**
 * A line of /v1/generate, or null when it is no frame. What money and routing rest on is checked by hand: this runs once
 * per token. Logprobs are passed on as they are.
 */
export function parseFrame(line: string): Frame | null {
  let frame: Frame
  try {
    frame = JSON.parse(line) as Frame
  } catch {
    return null
  }
  switch (frame?.type) {
    case 'accepted': {
      const { promptTokens, cachedTokens } = frame
      const counted = isCount(promptTokens) && isCount(cachedTokens)
      return counted && cachedTokens <= promptTokens ? frame : null
    }
    case 'tokens': {
      const { choice, tokenIds, text } = frame
      const ids = Array.isArray(tokenIds) && tokenIds.every(isCount)
      return isCount(choice) && ids && typeof text === 'string' ? frame : null
    }
    case 'finish':
      return isCount(frame.choice) && typeof frame.reason === 'string' ? frame : null
    case 'done':
      return typeof frame.receipt === 'string' ? frame : null
    case 'error':
      return typeof frame.message === 'string' && Object.hasOwn(ERRORS, frame.code) ? frame : null
    default:
      return null
  }
}
