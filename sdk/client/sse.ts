import { GraftError } from '../format/errors.ts'

/** What a stream is made of (WHATWG HTML, 9.2.6). Comments are kept because receipts travel in them. */
export type SseItem =
  | { kind: 'event'; event: string; data: string; id: string }
  | { kind: 'comment'; text: string }

/** Far above an honest event; caps what a server that never ends a line can make us hold. */
export const MAX_SSE_CHARS = 8_000_000

export interface SseParser {
  /** Decoded text, split anywhere. */
  push(text: string): SseItem[]
}

/** An event that the stream ends in the middle of is never delivered, as the specification asks. */
export function createSseParser(): SseParser {
  let rest = ''
  let scanned = 0
  let data: string[] = []
  let size = 0
  let event = ''
  let id = ''
  let afterCr = false
  let begun = false

  function field(line: string): SseItem | null {
    if (line === '') {
      const item: SseItem | null =
        data.length === 0
          ? null
          : { kind: 'event', event: event || 'message', data: data.join('\n'), id }
      data = []
      size = 0
      event = ''
      return item
    }
    const colon = line.indexOf(':')
    if (colon === 0) return { kind: 'comment', text: line.slice(line[1] === ' ' ? 2 : 1) }
    const name = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(colon + (line[colon + 1] === ' ' ? 2 : 1))
    if (name === 'data') {
      data.push(value)
      size += value.length
    }
    if (name === 'event') event = value
    if (name === 'id' && !value.includes('\0')) id = value
    return null
  }

  return {
    push(text) {
      if (!begun && text !== '') {
        begun = true
        if (text.startsWith('\uFEFF')) text = text.slice(1)
      }
      rest += text
      const items: SseItem[] = []
      let start = 0
      for (let at = scanned; at < rest.length; at++) {
        const char = rest[at]
        if (char !== '\n' && char !== '\r') {
          afterCr = false
          continue
        }
        // the second half of a CRLF, whose line ended at the CR: it may arrive in a later chunk
        if (char === '\n' && afterCr && at === start) {
          afterCr = false
          start = at + 1
          continue
        }
        const item = field(rest.slice(start, at))
        if (item) items.push(item)
        start = at + 1
        afterCr = char === '\r'
      }
      rest = rest.slice(start)
      scanned = rest.length
      if (rest.length + size > MAX_SSE_CHARS)
        throw new GraftError(
          'ERR_BODY_TOO_LARGE',
          `an event of the stream is longer than ${MAX_SSE_CHARS} characters`,
        )
      return items
    },
  }
}

/** The items of a body of UTF-8 bytes; a character split over two chunks waits for its rest. */
export async function* readSse(body: AsyncIterable<Uint8Array>): AsyncGenerator<SseItem> {
  const parser = createSseParser()
  // the parser itself drops one byte order mark, so that none can be dropped twice
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  for await (const chunk of body) yield* parser.push(decoder.decode(chunk, { stream: true }))
}
