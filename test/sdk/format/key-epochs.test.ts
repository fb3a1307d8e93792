import { assertKeysCount, type KeyHistory } from '@graft/sdk/format/key-epochs.ts'
import { describe, expect, it } from 'vitest'
import { codeOf } from './vectors.ts'

const history = (epochs: KeyHistory['epochs'], revoked = false): KeyHistory[] => [
  { kid: 'k', epochs, revoked },
]
const SPRING = { from: '2026-03-01T00:00:00.000Z', until: '2026-06-01T00:00:00.000Z' }
const OPEN = { from: '2026-09-01T00:00:00.000Z', until: null }

describe('assertKeysCount', () => {
  it.each<[string, KeyHistory[], string, string]>([
    ['in an epoch', history([SPRING]), '2026-04-01T00:00:00Z', 'accepted'],
    ['at the first moment of one', history([SPRING]), '2026-03-01T00:00:00Z', 'accepted'],
    ['at its end', history([SPRING]), '2026-06-01T00:00:00Z', 'ERR_KEY_REVOKED'],
    ['before it', history([SPRING]), '2026-02-28T23:59:59Z', 'ERR_KEY_REVOKED'],
    ['between two', history([SPRING, OPEN]), '2026-07-01T00:00:00Z', 'ERR_KEY_REVOKED'],
    ['in the second of two', history([SPRING, OPEN]), '2027-01-01T00:00:00Z', 'accepted'],
    ['of no epoch', history([]), '2026-04-01T00:00:00Z', 'ERR_KEY_REVOKED'],
    [
      'in an epoch of a revoked key',
      history([OPEN], true),
      '2027-01-01T00:00:00Z',
      'ERR_KEY_REVOKED',
    ],
    ['of a stranger', [], '2026-04-01T00:00:00Z', 'ERR_KEY_UNKNOWN'],
    ['at a time that is none', history([OPEN]), 'soon', 'ERR_KEY_UNKNOWN'],
  ])('judges a signature %s', (_, histories, at, code) =>
    expect(codeOf(() => assertKeysCount(['k'], histories, at))).toBe(code),
  )
})
