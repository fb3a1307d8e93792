import { expected, GraftError } from '@graft/sdk/format/errors.ts'

/** When adapters are merged, and in how much memory. */
export type MergeOption =
  | { when: 'never' }
  | {
      /** 'traffic' by itself too; 'request' only when an operator asks. */
      when: 'traffic' | 'request'
      /** null = one merged base. */
      budgetBytes: number | null
    }

const MIB = 1024 ** 2

/** off | request | auto | <MiB>, the last being auto within that memory. @throws ERR_REQUEST_INVALID */
export function parseMergeOption(text: string): MergeOption {
  if (text === 'off') return { when: 'never' }
  if (text === 'request') return { when: 'request', budgetBytes: null }
  if (text === 'auto') return { when: 'traffic', budgetBytes: null }
  const mib = Number(text)
  if (/^\d+$/.test(text) && Number.isSafeInteger(mib * MIB) && mib > 0)
    return { when: 'traffic', budgetBytes: mib * MIB }
  throw new GraftError(
    'ERR_REQUEST_INVALID',
    expected('merge', 'off, request, auto or a number of MiB', text),
  )
}
