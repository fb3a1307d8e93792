import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readGgufHeader } from '@graft/convert/gguf/open-gguf.ts'
import { heldBytes } from '@graft/sdk/format/byte-source.ts'
import { describe, expect, it } from 'vitest'
import { bytesOf, importAdapterOf } from './helpers.ts'

/** Files that others wrote; not part of the repository (shared/data/README.md). */
const SHARED = join(import.meta.dirname, '../../../../../shared/data/formats')
const present = existsSync(SHARED)
if (!present) console.log(`skipped: ${SHARED} is absent`)

const GGUF = join(SHARED, 'gguf')
const RUNNER = join(GGUF, 'docker-model-runner')
const INSPECT = join(SHARED, 'weight-inspect/tests/fixtures')
const open = (path: string) => readGgufHeader(heldBytes(bytesOf(path)))

describe.skipIf(!present)('GGUF files that others wrote', () => {
  it.each([
    ['ggml-vocab-bert-bge.gguf', 20, 30_522],
    ['ggml-vocab-gpt-2.gguf', 16, 50_257],
    ['ggml-vocab-phi-3.gguf', 26, 32_064],
  ])('%s is read whole and refused as a vocabulary', async (name, keys, tokens) => {
    const { header } = await open(join(GGUF, name))
    expect(header.metadata.size).toBe(keys)
    expect(header.metadata.get('tokenizer.ggml.tokens')?.value).toHaveLength(tokens)
    await expect(importAdapterOf(bytesOf(join(GGUF, name)))).rejects.toMatchObject({
      code: 'ERR_SOURCE_UNKNOWN',
      message: expect.stringMatching(/is a GGUF vocabulary of .*, not an adapter/),
    })
  })

  it('the pieces of the vocabulary are those that llama.cpp makes of its own test texts', async () => {
    const { header } = await open(join(GGUF, 'ggml-vocab-gpt-2.gguf'))
    const pieces = header.metadata.get('tokenizer.ggml.tokens')!.value as string[]
    // Texts are divided by a line, and answered by a line of ids each.
    const lines = (end: string) => readFileSync(join(GGUF, `ggml-vocab-gpt-2.gguf.${end}`), 'utf8')
    const texts = lines('inp').split('\n__ggml_vocab_test__\n')
    const ids = lines('out').split('\n')
    const at = texts.indexOf('Hello world')
    expect(at).toBeGreaterThan(0)
    expect(
      ids[at]!.trim()
        .split(/\s+/)
        .map((id) => pieces[Number(id)]),
    ).toEqual(['Hello', 'Ġworld'])
  })

  it('every type of metadata has the value that the file is known to hold', async () => {
    const { header } = await open(join(RUNNER, 'assets/dummy.gguf'))
    const value = (name: string) => header.metadata.get(`some.parameter.${name}`)
    expect(value('uint8')).toEqual({ kind: 'uint8', value: 0x12 })
    expect(value('int8')).toEqual({ kind: 'int8', value: -0x13 })
    expect(value('uint16')).toEqual({ kind: 'uint16', value: 0x1234 })
    expect(value('int16')).toEqual({ kind: 'int16', value: -0x1235 })
    expect(value('uint32')).toEqual({ kind: 'uint32', value: 0x12345678 })
    expect(value('int32')).toEqual({ kind: 'int32', value: -0x12345679 })
    expect(value('float32')).toEqual({ kind: 'float32', value: Math.fround(0.123456791) })
    expect(value('uint64')).toEqual({ kind: 'uint64', value: 0x123456789abcdef0n })
    expect(value('int64')).toEqual({ kind: 'int64', value: -0x123456789abcdef1n })
    expect(value('float64')).toEqual({ kind: 'float64', value: 0.12345678901234568 })
    expect(value('bool')).toEqual({ kind: 'bool', value: true })
    expect(value('string')).toEqual({ kind: 'string', value: 'hello world' })
    expect(value('arr.i16')).toEqual({ kind: 'array', of: 'int16', value: [1, 2, 3, 4] })
    expect(value('arr.str')).toEqual({
      kind: 'array',
      of: 'string',
      value: ['hello', 'world', '!'],
    })
    expect(header.tensors).toHaveLength(10)
    expect(header.tensors[0]).toMatchObject({ type: { name: 'F32' }, begin: 0 })
  })

  it.each([
    ['assets/dummy.gguf', /a GGUF model, not an adapter/],
    ['pkg/distribution/assets/dummy-00001-of-00002.gguf', /one of 2 shards of a GGUF model/],
    ['pkg/distribution/assets/dummy-00002-of-00002.gguf', /one of 2 shards of a GGUF model/],
  ])('%s is refused as what it is', async (name, message) => {
    await expect(importAdapterOf(bytesOf(join(RUNNER, name)))).rejects.toMatchObject({
      code: 'ERR_SOURCE_UNKNOWN',
      message: expect.stringMatching(message),
    })
  })

  it('a file whose one tensor has no data is refused as cut off', async () => {
    const bytes = bytesOf(join(INSPECT, 'tiny.gguf'))
    await expect(importAdapterOf(bytes)).rejects.toMatchObject({ code: 'ERR_CONFIG_INVALID' })
  })

  it('a file without tensors is refused as such', async () => {
    const { header } = await open(join(INSPECT, 'empty.gguf'))
    expect([...header.metadata.keys()]).toEqual(['general.architecture'])
    await expect(importAdapterOf(bytesOf(join(INSPECT, 'empty.gguf')))).rejects.toMatchObject({
      code: 'ERR_SOURCE_UNKNOWN',
      message: expect.stringMatching(/a GGUF of .* without tensors, not an adapter/),
    })
  })
})
