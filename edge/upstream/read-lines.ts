/** Far above an honest frame; caps what a broken runner can make the edge hold. */
const MAX_LINE_CHARACTERS = 4_000_000

/** Non-empty lines of a body. Leaving the loop early cancels the body. */
export async function* readLines(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.getReader()
  const decoder = new TextDecoder()
  let rest = ''
  try {
    for (;;) {
      const { done, value } = await reader.read()
      rest += done ? decoder.decode() : decoder.decode(value, { stream: true })
      const lines = rest.split('\n')
      rest = done ? '' : lines.pop()!
      for (const line of lines) if (line.trim() !== '') yield line
      if (done) return
      if (rest.length > MAX_LINE_CHARACTERS) throw new Error('a line is longer than any frame')
    }
  } finally {
    // A cancel that fails means that the body is already gone.
    await reader.cancel().catch(() => {})
  }
}
