type JsonObject = Record<string, unknown>

/** GPT-2's alphabet: bytes that print stand for themselves, the others for characters from U+0100 on. */
function byteAlphabet(): Map<string, number> {
  const prints = (byte: number): boolean =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
  const alphabet = new Map<string, number>()
  let next = 256
  for (let byte = 0; byte < 256; byte++)
    alphabet.set(String.fromCodePoint(prints(byte) ? byte : next++), byte)
  return alphabet
}

/** Types of decoder steps, nested sequences flattened. */
function decoderSteps(decoder: unknown): JsonObject[] {
  if (typeof decoder !== 'object' || decoder === null) return []
  const step = decoder as JsonObject
  return step['type'] === 'Sequence' && Array.isArray(step['decoders'])
    ? step['decoders'].flatMap(decoderSteps)
    : [step]
}

/** Tokens of the model by id; BPE and WordPiece list them by name, Unigram in order. */
function modelTokens(model: JsonObject): [id: number, token: string][] {
  const { vocab } = model
  if (Array.isArray(vocab)) return vocab.map((entry, id) => [id, String(entry[0])])
  return Object.entries((vocab ?? {}) as Record<string, number>).map(([token, id]) => [id, token])
}

/**
 * [vocab] the UTF-8 bytes that each token adds to an answer, null for tokens that add none (special ones, and ids that
 * no token has). null when the decoder of tokenizer.json works neither on bytes nor on byte fallback, so that a token's
 * text would depend on its neighbours.
 */
export function tokenBytes(tokenizer: JsonObject, vocab: number): (Uint8Array | null)[] | null {
  const model = (tokenizer['model'] ?? {}) as JsonObject
  const steps = decoderSteps(tokenizer['decoder'])
  const types = steps.map((step) => step['type'])
  const utf8 = new TextEncoder()
  let read: (token: string) => Uint8Array
  if (types.includes('ByteLevel')) {
    const alphabet = byteAlphabet()
    read = (token) =>
      Uint8Array.from([...token].flatMap((c) => alphabet.get(c) ?? [...utf8.encode(c)]))
  } else if (types.includes('ByteFallback')) {
    read = (token) => {
      const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token)
      return byte
        ? Uint8Array.of(Number.parseInt(byte[1]!, 16))
        : utf8.encode(token.replaceAll('▁', ' '))
    }
  } else return null
  const bytes: (Uint8Array | null)[] = new Array(vocab).fill(null)
  for (const [id, token] of modelTokens(model)) if (id < vocab) bytes[id] = read(token)
  const added = (tokenizer['added_tokens'] ?? []) as {
    id: number
    content: string
    special: boolean
  }[]
  for (const { id, content, special } of added)
    if (id < vocab) bytes[id] = special ? null : utf8.encode(content)
  return bytes.map((one) => (one && one.length > 0 ? one : null))
}
