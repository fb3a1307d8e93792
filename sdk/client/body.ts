import type { Watch } from './watch.ts'

/** Chunks of a body, each due within `idleMs` of the one before. Leaving the loop ends the request. */
export async function* readBody(
  response: Response,
  watch: Watch,
  idleMs: () => number,
  what: string,
): AsyncGenerator<Uint8Array> {
  if (!response.body) return
  const reader = response.body.getReader()
  try {
    for (;;) {
      watch.arm(idleMs(), `${what}: waiting for more of the answer`)
      const { done, value } = await reader.read()
      watch.disarm()
      if (done) return
      yield value
    }
  } catch (e) {
    throw watch.explain(e, what)
  } finally {
    watch.disarm()
    await reader.cancel().catch(() => {})
  }
}
