import { createSseParser, MAX_SSE_CHARS, readSse, type SseItem } from '@graft/sdk/client/sse.ts'
import fc from 'fast-check'
import { expect, it } from 'vitest'

const event = (data: string, rest: Partial<Extract<SseItem, { kind: 'event' }>> = {}): SseItem => ({
  ...{ kind: 'event', event: 'message', data, id: '' },
  ...rest,
})
const parse = (text: string): SseItem[] => createSseParser().push(text)

// The examples of WHATWG HTML, 9.2.6, "Interpreting an event stream".
it('reads the examples of the specification', () => {
  expect(parse('data: YHOO\ndata: +2\ndata: 10\n\n')).toEqual([event('YHOO\n+2\n10')])
  const blocks =
    ': test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n'
  expect(parse(blocks)).toEqual([
    { kind: 'comment', text: 'test stream' },
    event('first event', { id: '1' }),
    event('second event'),
    event(' third event'),
  ])
  expect(parse('data\n\ndata\ndata\n\ndata:')).toEqual([event(''), event('\n')])
  expect(parse('data:test\n\ndata: test\n\n')).toEqual([event('test'), event('test')])
})

it('ends lines at CR, LF and CRLF alike', () => {
  for (const eol of ['\r', '\n', '\r\n'])
    expect(parse(['event: e', 'data: a', 'data: b', '', ': c', ''].join(eol))).toEqual([
      event('a\nb', { event: 'e' }),
      { kind: 'comment', text: 'c' },
    ])
})

it('drops one byte order mark and no second', () => {
  expect(parse('\uFEFFdata: a\n\n')).toEqual([event('a')])
  expect(parse('\uFEFF\uFEFFdata: a\n\n')).toEqual([])
})

it('never delivers an event that the stream ends in the middle of', () => {
  expect(parse('data: whole\n\ndata: half\n')).toEqual([event('whole')])
})

it('refuses an event longer than it may hold', () => {
  const parser = createSseParser()
  expect(() => {
    for (let sent = 0; sent <= MAX_SSE_CHARS; sent += 1_000_000) parser.push('x'.repeat(1_000_000))
  }).toThrow(expect.objectContaining({ code: 'ERR_BODY_TOO_LARGE' }))
})

it('reads the same from any split of the bytes, characters of several bytes included', async () => {
  const line = fc.constantFrom(
    ...['data: a', 'data:é漢𝄞', 'data', ': note', ':', 'event: x', 'id: 7', 'id: \0', 'retry: 5'],
    ...['', '', 'unknown: z', 'data: {"x": 1}'],
  )
  const eol = fc.constantFrom('\n', '\r\n', '\r')
  const stream = fc.array(fc.tuple(line, eol), { maxLength: 30 })
  await fc.assert(
    fc.asyncProperty(stream, fc.array(fc.nat(12), { minLength: 1 }), async (lines, sizes) => {
      const bytes = new TextEncoder().encode(lines.flat().join(''))
      async function* chunks() {
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const size = sizes[i % sizes.length]! + (sizes.every((n) => n === 0) ? 1 : 0)
          yield bytes.slice(at, at + size)
          at += size
        }
      }
      const split: SseItem[] = []
      for await (const item of readSse(chunks())) split.push(item)
      expect(split).toEqual(parse(new TextDecoder().decode(bytes)))
    }),
    { numRuns: 500 },
  )
})
