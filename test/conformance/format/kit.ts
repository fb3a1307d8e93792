import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** One case as cases.json holds it; README.md says what each kind is given and answers. */
export interface Case {
  id: string
  kind: string
  // biome-ignore lint/suspicious/noExplicitAny: each kind has members of its own
  [member: string]: any
}

/** What an implementation answers: the result, an error code, or that it does not do this. */
export type Answer = { [member: string]: unknown } | { error: string } | { unsupported: true }

export const openKit = (folder: string) => ({
  cases: JSON.parse(readFileSync(join(folder, 'cases.json'), 'utf8')) as Case[],
  expected: JSON.parse(readFileSync(join(folder, 'answers.json'), 'utf8')) as Record<
    string,
    Answer
  >,
  read: (path: string): Uint8Array => new Uint8Array(readFileSync(join(folder, path))),
})
export type Kit = ReturnType<typeof openKit>

/** Numbers agree to 1e-5 of the larger one (at least 1); all else is equal. @returns the first difference, or null */
export function differenceOf(got: unknown, want: unknown, where = ''): string | null {
  if (typeof got === 'number' && typeof want === 'number') {
    const close = Math.abs(got - want) <= 1e-5 * Math.max(1, Math.abs(want))
    return close ? null : `${where}: ${got} instead of ${want}`
  }
  if (typeof got !== 'object' || typeof want !== 'object' || got === null || want === null)
    return Object.is(got, want)
      ? null
      : `${where}: ${JSON.stringify(got)} instead of ${JSON.stringify(want)}`
  const keys = [...new Set([...Object.keys(got), ...Object.keys(want)])]
  for (const key of keys) {
    const [a, b] = [(got as Answer)[key as never], (want as Answer)[key as never]]
    const difference = differenceOf(a, b, `${where}.${key}`)
    if (difference) return difference
  }
  return null
}
