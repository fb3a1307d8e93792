import { errorResponse } from '@graft/sdk/format/errors.ts'
import { RECEIPT_COMMENT, RECEIPT_FIELD } from '@graft/sdk/protocol/receipts.ts'
import type { CallEvent } from '../calls/run-call.ts'
import type { CallRequest } from './call-request.ts'
import { type AnswerHead, chunkShapes } from './shapes.ts'

/** Ends a stream that is complete. */
export const DONE_LINE = 'data: [DONE]\n\n'

const data = (value: unknown): string => `data: ${JSON.stringify(value)}\n\n`

/** An error as clients read it in a stream. */
export const errorLine = (error: unknown, requestId: string): string =>
  data(errorResponse(error, requestId).body)

/**
 * A call's events as server-sent events. A call that fails ends with an in-band error and no [DONE]: most clients take
 * a bare close for a complete answer. The receipt is a comment, because a data event before [DONE] breaks some of them.
 */
export async function* sseLines(
  request: CallRequest,
  head: AnswerHead,
  events: AsyncGenerator<CallEvent, void>,
  requestId: string,
): AsyncGenerator<string, void> {
  const shapes = chunkShapes(request, head)
  const begun = new Set<number>()
  const lengths = new Map<number, number>()
  function* begin(choice: number): Generator<string> {
    const role = begun.has(choice) ? null : shapes.role(choice)
    begun.add(choice)
    if (role) yield data(role)
  }
  try {
    for await (const event of events) {
      if (event.type === 'tokens') {
        const { choice, text, logprobs } = event
        yield* begin(choice)
        const offset = lengths.get(choice) ?? 0
        lengths.set(choice, offset + text.length)
        // Half a character is still at the runner; there is nothing to tell yet.
        if (text !== '' || logprobs) yield data(shapes.text(choice, text, logprobs, offset))
      } else if (event.type === 'finish') {
        yield* begin(event.choice)
        yield data(shapes.finish(event.choice, event.reason))
      } else {
        const { tokens, receipt } = event
        if (request.includeUsage) yield data(shapes.usage(tokens, { [RECEIPT_FIELD]: receipt }))
        yield `: ${RECEIPT_COMMENT} ${receipt}\n\n`
        yield DONE_LINE
      }
    }
  } catch (error) {
    yield errorLine(error, requestId)
  }
}
