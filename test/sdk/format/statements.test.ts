import { sha256 } from '@graft/sdk/format/digest.ts'
import type { Goldens } from '@graft/sdk/format/manifest.ts'
import {
  goldensStatement,
  isAbout,
  parseStatement,
  statementBytes,
} from '@graft/sdk/format/statements.ts'
import { describe, expect, it } from 'vitest'
import { codeOf } from './vectors.ts'

const digest = await sha256('manifest')
const goldens: Goldens = {
  producer: 'peft@0.21.2',
  basePrecision: 'fp32',
  logits: { sha256: await sha256('logits'), size: 64 },
  prompts: [{ tokenIds: [1, 2, 3], positions: [1, 2], greedy: { tokenIds: [7], margins: [0.5] } }],
}
const statement = goldensStatement('@acme/sql', digest, goldens)

describe('statements', () => {
  it('survive their bytes and name their subject', async () => {
    const again = parseStatement(statementBytes(statement))
    expect(again).toEqual(statement)
    expect(again.predicateType).toBe('urn:graft:predicate:goldens:v1')
    expect(isAbout(again, digest)).toBe(true)
    expect(isAbout(again, await sha256('another'))).toBe(false)
  })

  it.each<[string, object]>([
    ['another statement type', { _type: 'https://in-toto.io/Statement/v0.1' }],
    ['no subject', { subject: [] }],
    ['a short digest', { subject: [{ name: 'a', digest: { sha256: '00' } }] }],
    ['an unknown field', { extra: 1 }],
    ['no prompts', { predicate: { ...goldens, prompts: [] } }],
    ['an unknown golden', { predicate: { ...goldens, tolerance: 1 } }],
    [
      'a position beyond the prompt',
      { predicate: { ...goldens, prompts: [{ ...goldens.prompts[0], positions: [3] }] } },
    ],
    [
      'a token without its margin',
      {
        predicate: {
          ...goldens,
          prompts: [{ ...goldens.prompts[0], greedy: { tokenIds: [1, 2], margins: [1] } }],
        },
      },
    ],
  ])('are refused with %s', (_, change) => {
    const bytes = new TextEncoder().encode(JSON.stringify({ ...statement, ...change }))
    expect(codeOf(() => parseStatement(bytes))).toBe('ERR_MANIFEST_INVALID')
  })
})
