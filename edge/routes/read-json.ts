import { GraftError } from '@graft/sdk/format/errors.ts'

/** @throws ERR_BODY_TOO_LARGE */
export async function readText(request: Request, limit: number): Promise<string> {
  const tooLarge = () =>
    new GraftError('ERR_BODY_TOO_LARGE', `the body must be at most ${limit} bytes`)
  if (Number(request.headers.get('content-length') ?? 0) > limit) throw tooLarge()
  const decoder = new TextDecoder()
  let text = ''
  let size = 0
  for await (const chunk of (request.body ?? []) as AsyncIterable<Uint8Array>) {
    size += chunk.length
    if (size > limit) throw tooLarge()
    text += decoder.decode(chunk, { stream: true })
  }
  return text + decoder.decode()
}

/** @throws ERR_JSON_INVALID */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch (cause) {
    const message = `the body must be JSON: ${(cause as Error).message}`
    throw new GraftError('ERR_JSON_INVALID', message, { cause })
  }
}

/** @throws ERR_BODY_TOO_LARGE, ERR_JSON_INVALID */
export const readJson = async (request: Request, limit: number): Promise<unknown> =>
  parseJson(await readText(request, limit))
