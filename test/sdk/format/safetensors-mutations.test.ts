import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { heldBytes } from '@graft/sdk/format/byte-source.ts'
import { isGraftError } from '@graft/sdk/format/errors.ts'
import { readSafetensors, type Tensor, writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import { openSafetensors } from '@graft/sdk/format/safetensors-source.ts'
import { describe, expect, it } from 'vitest'
import { mutate } from './mutations/mutate.ts'
import { codeOf } from './vectors.ts'

const folder = join(import.meta.dirname, 'mutations')
const read = (path: string): Uint8Array => new Uint8Array(readFileSync(join(folder, path)))
const verdicts = readFileSync(join(folder, 'verdicts.bin'))
const summary = JSON.parse(readFileSync(join(folder, 'verdicts.json'), 'utf8'))
const seeds = readdirSync(join(folder, 'seeds'))
  .sort()
  .map((name) => read(`seeds/${name}`))
const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest()

/** The rules of SPEC.md, section 1, that the reference library does not have, each by what its refusal says. */
const STRICTER: Record<string, RegExp> = {
  'a name occurs once': /a name that the object does not hold yet/,
  'an entry has dtype, shape and data_offsets and no other member':
    /dtype, shape and data_offsets only|an integer of digits only/,
  'an entry is an object': /^tensor .* must be an object/,
  'the header starts with {': /a JSON object starting with "\{"/,
  'the header is at most 8 MiB': /header length must be at most 8388608/,
  'dimensions, and their product, are below 2^53': /integers >= 0|below 2\^53/,
  'JSON nests at most 64 deep': /nested at most 64/,
}

/** What make.py's verdict() says of tensors. */
function sumOf(tensors: ReadonlyMap<string, Tensor>): number {
  const lines = [...tensors].map(([name, { dtype, shape, data }]) =>
    Buffer.from([name, dtype, shape.join(','), sha256(data).toString('hex')].join('\t')),
  )
  lines.sort(Buffer.compare)
  const joined = Buffer.concat(
    lines.flatMap((line, i) => (i > 0 ? [Buffer.from('\n'), line] : [line])),
  )
  return sha256(joined).readUInt32BE(0) || 1
}

describe(`${summary.cases} mutated files, as Python's safetensors ${summary.safetensors} judged them`, () => {
  it('are made again byte for byte', () => {
    const corpus = createHash('sha256')
    for (let i = 0; i < summary.cases; i++) {
      const file = mutate(i, seeds)
      const size = Buffer.alloc(4)
      size.writeUInt32LE(file.length)
      corpus.update(size).update(file)
    }
    expect(corpus.digest('hex')).toBe(summary.corpus)
  })

  it('are refused where Python refuses; where it accepts they read the same or break a stricter rule', () => {
    const counts = { refused: 0, same: 0 }
    const stricter = Object.fromEntries(Object.keys(STRICTER).map((rule) => [rule, 0]))
    const wrong: string[] = []
    for (let i = 0; i < summary.cases; i++) {
      const python = verdicts.readUInt32BE(4 * i)
      try {
        const ours = sumOf(readSafetensors(mutate(i, seeds)).tensors)
        if (ours === python) counts.same++
        else wrong.push(`case ${i}: ${python === 0 ? 'refused by Python' : 'read otherwise'}`)
      } catch (e) {
        const message = isGraftError(e) ? e.message : ''
        const rule = Object.keys(STRICTER).find((name) => STRICTER[name]!.test(message))
        if (message === '') wrong.push(`case ${i}: crash ${e}`)
        else if (python === 0) counts.refused++
        else if (rule) stricter[rule]!++
        else wrong.push(`case ${i}: refused, and Python accepts: ${message}`)
      }
    }
    expect(wrong).toEqual([])
    expect({ ...counts, stricter }).toMatchInlineSnapshot(`
      {
        "refused": 7138,
        "same": 2775,
        "stricter": {
          "JSON nests at most 64 deep": 0,
          "a name occurs once": 6,
          "an entry has dtype, shape and data_offsets and no other member": 78,
          "an entry is an object": 1,
          "dimensions, and their product, are below 2^53": 2,
          "the header is at most 8 MiB": 0,
          "the header starts with {": 0,
        },
      }
    `)
  })

  it('are answered the same when they are read by ranges', async () => {
    const wrong: string[] = []
    for (let i = 0; i < summary.cases; i++) {
      const file = mutate(i, seeds)
      const whole = codeOf(() => readSafetensors(file))
      const ranges = await openSafetensors(heldBytes(file)).then(
        () => 'accepted',
        (e: { code?: string }) => e.code ?? `crash: ${e}`,
      )
      if (whole !== ranges) wrong.push(`case ${i}: ${whole}, by ranges ${ranges}`)
    }
    expect(wrong).toEqual([])
  })

  it('come from seeds of which two hold every dtype, in the order of the reference writer', () => {
    const { tensors, metadata } = readSafetensors(read('seeds/writer.safetensors'))
    expect(tensors.size).toBe(20)
    const again = writeSafetensors(new Map([...tensors].reverse()), metadata)
    expect(Buffer.compare(again, read('seeds/writer.safetensors'))).toBe(0)
    expect(readSafetensors(read('seeds/dtypes.safetensors')).tensors.size).toBe(22)
  })
})
