import { parseMergeOption } from '@graft/runner/merging/merge-option.ts'
import { expect, test } from 'vitest'

test.each([
  ['off', { when: 'never' }],
  ['request', { when: 'request', budgetBytes: null }],
  ['auto', { when: 'traffic', budgetBytes: null }],
  ['300', { when: 'traffic', budgetBytes: 314_572_800 }],
])('--merge %s is understood', (text, option) => {
  expect(parseMergeOption(text)).toEqual(option)
})

test.each(['', 'on', '0', '-3', '1.5', '1e3', '9999999999999'])(
  '--merge %j is refused with what may stand there',
  (text) => {
    expect(() => parseMergeOption(text)).toThrow(
      expect.objectContaining({
        code: 'ERR_REQUEST_INVALID',
        message: expect.stringContaining('off, request, auto or a number of MiB'),
      }),
    )
  },
)
