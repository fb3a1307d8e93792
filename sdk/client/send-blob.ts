import { type ByteSource, readRange } from '../format/byte-source.ts'
import { type GraftError, isGraftError } from '../format/errors.ts'
import type { MissingParts, PublishAnswer } from '../protocol/registry-api.ts'
import type { Http } from './http.ts'

export interface SendOptions {
  /** Send a whole blob as a stream, so that progress moves within it. */
  stream: boolean
  signal: AbortSignal | undefined
  what: string
  /** Bytes of the blob that are there. */
  onBytes(count: number): void
}

const CHUNK_BYTES = 64 * 1024
/** So many parts are in memory: enough to fill a line that one connection does not. */
const PARTS_AT_ONCE = 3
/** How often the registry is asked which parts are still missing, after some failed. */
const ROUNDS = 4

/** A minute to begin, and a second for every 64 KiB: the slowest link worth waiting for. */
const timeoutFor = (size: number): number => 60_000 + Math.ceil(size / CHUNK_BYTES) * 1_000

/** Sends one blob, in parts where the registry takes it so: what arrived before is not sent again. */
export async function sendBlob(
  http: Http,
  blob: PublishAnswer['missing'][number],
  source: ByteSource,
  options: SendOptions,
): Promise<void> {
  if (blob.parts === undefined) return sendWhole(http, blob.url, source, options)
  for (let round = 1; ; round++) {
    const asked = await http.json<MissingParts>({
      method: 'GET',
      path: blob.parts,
      signal: options.signal,
      what: options.what,
    })
    if (asked.missing.length === 0) return options.onBytes(source.size)
    const failure = await sendParts(http, asked, source, options)
    if (failure === null) return
    if (round === ROUNDS || !mayPass(failure)) throw failure
  }
}

/** A line that broke, and an address that storage takes no more, which the next round replaces. */
const mayPass = (e: GraftError): boolean =>
  ['ERR_UNREACHABLE', 'ERR_TIMEOUT', 'ERR_OVERLOADED', 'ERR_FORBIDDEN'].includes(e.code)

/** All of them, some at once; after a failure no new one is begun. @returns the first failure, or null */
async function sendParts(
  http: Http,
  { partSize, missing }: MissingParts,
  source: ByteSource,
  options: SendOptions,
): Promise<GraftError | null> {
  let sent = source.size - missing.reduce((sum, { size }) => sum + size, 0)
  let failure: GraftError | null = null
  const queue = [...missing]
  options.onBytes(sent)
  async function work(): Promise<void> {
    for (let part = queue.shift(); part && failure === null; part = queue.shift()) {
      const begin = (part.number - 1) * partSize
      const bytes = await readRange(source, begin, begin + part.size)
      await put(http, part.url, () => bytes as Uint8Array<ArrayBuffer>, part.size, options)
      sent += part.size
      options.onBytes(sent)
    }
  }
  const guarded = () =>
    work().catch((e: unknown) => {
      if (!isGraftError(e)) throw e
      failure ??= e
    })
  await Promise.all(Array.from({ length: PARTS_AT_ONCE }, guarded))
  return failure
}

async function sendWhole(
  http: Http,
  url: string,
  source: ByteSource,
  options: SendOptions,
): Promise<void> {
  if (options.stream)
    return put(http, url, () => streamOf(source, options.onBytes), source.size, options, {
      'content-length': String(source.size),
    })
  const bytes = await readRange(source, 0, source.size)
  return put(http, url, () => bytes as Uint8Array<ArrayBuffer>, source.size, options)
}

async function put(
  http: Http,
  url: string,
  body: () => BodyInit,
  size: number,
  { signal, what }: SendOptions,
  headers: Record<string, string> = {},
): Promise<void> {
  const { response, watch } = await http.send({
    method: 'PUT',
    path: url,
    body,
    headers: { 'content-type': 'application/octet-stream', ...headers },
    signal,
    timeoutMs: timeoutFor(size),
    what,
  })
  watch.disarm()
  await response.body?.cancel()
}

function streamOf(source: ByteSource, onBytes: (sent: number) => void): ReadableStream<Uint8Array> {
  let at = 0
  return new ReadableStream(
    {
      async pull(controller) {
        if (at >= source.size) return controller.close()
        const end = Math.min(at + CHUNK_BYTES, source.size)
        // A copy: what a source returns may be a view of memory that it fills again.
        controller.enqueue((await readRange(source, at, end)).slice())
        at = end
        onBytes(at)
      },
    },
    { highWaterMark: 0 },
  )
}
