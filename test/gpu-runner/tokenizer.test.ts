import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { openTokenizer } from '@graft/runner/tokenizer/open-tokenizer.ts'
import { createTokenizer, type TextCodec } from '@graft/runner/tokenizer/tokenizer.ts'
import type { ChatMessage } from '@graft/sdk/protocol/runner-api.ts'
import { describe, expect, it } from 'vitest'

const data = join(import.meta.dirname, '../../../shared/data')
const read = (path: string) => JSON.parse(readFileSync(path, 'utf8'))

interface Expected {
  rows: { text: string; ids: number[]; decoded: string }[]
  chat: { rendered: string; ids: number[] }
}
const fixture = read(join(import.meta.dirname, 'fixtures/tokenizers.json')) as {
  template: string
  messages: ChatMessage[]
} & Record<'tinystories-656k' | 'gpt2', Expected>

const absent = !existsSync(data)
if (absent) console.warn('skipped: ../shared/data with the tokenizers is absent')

const open = (name: 'tinystories-656k' | 'gpt2', chatTemplate: string | null): TextCodec => {
  const gpt2 = name === 'gpt2'
  const folder = join(data, 'bases/tinystories-656k')
  return createTokenizer({
    tokenizer: read(
      gpt2 ? join(data, 'tokenizers/gpt2-tokenizer.json') : join(folder, 'tokenizer.json'),
    ),
    config: gpt2 ? {} : read(join(folder, 'tokenizer_config.json')),
    generation: [],
    chatTemplate,
    vocab: gpt2 ? 50_257 : 2_048,
  })
}

/** Pushes all ids one by one, and checks that no piece ends within a character. */
function streamed(codec: TextCodec, prompt: number[], ids: number[]): string {
  const stream = codec.stream(prompt)
  const pieces = ids.map((id) => stream.push(id))
  for (const piece of pieces) expect(piece).not.toContain('\ufffd')
  return pieces.join('') + stream.flush()
}

for (const name of ['tinystories-656k', 'gpt2'] as const)
  describe.skipIf(absent)(`the tokenizer of ${name}`, () => {
    const { rows, chat } = fixture[name]
    const codec = absent ? (null as unknown as TextCodec) : open(name, fixture.template)

    it.each(rows.map((row) => [row.text, row] as const))(
      'gives the ids and the text of transformers for %j',
      (text, row) => {
        expect(codec.encodePrompt({ kind: 'text', text })).toEqual(row.ids)
        expect(codec.decode(row.ids)).toBe(row.decoded)
      },
    )

    it.each(rows.map((row) => [row.text, row] as const))(
      'streams %j token by token into the same text, never splitting a character',
      (_, row) => {
        // The special token at the front stands in the prompt, as in a real call.
        const prompt = name === 'gpt2' ? [] : row.ids.slice(0, 1)
        expect(streamed(codec, prompt, row.ids.slice(prompt.length))).toBe(row.decoded)
      },
    )

    it('continues a text after any cut of it, even within a character', () => {
      for (const { ids, decoded } of rows)
        for (let cut = 1; cut < ids.length; cut++) {
          const before = codec.decode(ids.slice(0, cut))
          if (before.endsWith('\ufffd') || before.length === 0) continue
          expect(before + streamed(codec, ids.slice(0, cut), ids.slice(cut))).toBe(decoded)
        }
    })

    it('has the bytes of each token: those of an answer are its text', () => {
      const bytes = codec.tokenBytes()!
      for (const { ids, decoded } of rows) {
        const text = new TextDecoder().decode(
          Uint8Array.from(ids.flatMap((id) => [...(bytes[id] ?? [])])),
        )
        // Where a text begins, its decoder takes the space away that its tokenizer put there.
        expect(text.trimStart()).toBe(decoded.trimStart())
      }
    })

    it('renders a chat as the template says, and takes its special tokens from the template alone', () => {
      expect(codec.encodePrompt({ kind: 'chat', messages: fixture.messages })).toEqual(chat.ids)
    })
  })

describe.skipIf(absent)('a tokenizer', () => {
  it('shows a character that never completes as U+FFFD once the answer ends', () => {
    const codec = open('gpt2', null)
    const [first, second] = codec.encodePrompt({ kind: 'text', text: '😀' })
    const stream = codec.stream([])
    expect(stream.push(first!)).toBe('')
    expect(stream.flush()).toBe('\ufffd')
    const other = codec.stream([])
    expect([other.push(first!), other.push(second!)]).toEqual(['', '😀'])
  })

  it('does not wait for ever for a character in bytes that are no text', () => {
    const codec = open('gpt2', null)
    const [lead] = codec.encodePrompt({ kind: 'text', text: '😀' })
    const stream = codec.stream([])
    const text = Array.from({ length: 40 }, () => stream.push(lead!)).join('')
    expect(text.length).toBeGreaterThan(8)
  })

  it('refuses messages when the base has no chat template', () => {
    const call = () =>
      open('gpt2', null).encodePrompt({ kind: 'chat', messages: [{ role: 'user', content: 'a' }] })
    expect(call).toThrow(/chat template/)
  })

  it('refuses ids beyond the vocabulary and prompts without tokens', () => {
    const codec = open('gpt2', null)
    expect(() => codec.encodePrompt({ kind: 'tokens', tokenIds: [50_257] })).toThrow(/50257/)
    expect(() => codec.encodePrompt({ kind: 'text', text: '' })).toThrow(/at least one token/)
  })

  it('passes on why a template refuses messages', () => {
    const codec = open('gpt2', "{{ raise_exception('roles must alternate') }}")
    const call = () => codec.encodePrompt({ kind: 'chat', messages: fixture.messages })
    expect(call).toThrow(expect.objectContaining({ code: 'ERR_REQUEST_INVALID' }))
    expect(call).toThrow(/roles must alternate/)
  })

  it('takes the end of an answer from generation_config.json', async () => {
    const codec = await openTokenizer(join(data, 'bases/tinystories-656k'), 2_048)
    expect([...codec.eosTokenIds]).toEqual([2])
  })
})
