import { expected, GraftError } from '@graft/sdk/format/errors.ts'

const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400, w: 7 * 86_400 } as const

/** `90s`, `30m`, `12h`, `7d`, `2w`, or seconds alone. @throws ERR_REQUEST_INVALID */
export function parseDuration(text: string, where: string): number {
  const [, count, unit] = /^(\d{1,9})([smhdw]?)$/.exec(text) ?? []
  if (count === undefined)
    throw new GraftError('ERR_REQUEST_INVALID', expected(where, 'like 12h, 7d or seconds', text))
  return Number(count) * SECONDS[(unit || 's') as keyof typeof SECONDS]
}
