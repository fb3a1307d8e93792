import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const root = join(import.meta.dirname, '../../../../shared/data')

/** Test data that is not part of the project; without it the tests that need it are skipped, by name. */
export const hasData = (path: string): boolean => {
  const there = existsSync(join(root, path))
  if (!there) console.warn(`skipped: ../shared/data/${path} is not here`)
  return there
}
export const readData = (path: string): Uint8Array => new Uint8Array(readFileSync(join(root, path)))
export const readJsonData = (path: string) => JSON.parse(readFileSync(join(root, path), 'utf8'))
export const listData = (path: string): string[] => readdirSync(join(root, path)).sort()

/** The code of what `run` throws; "accepted" when it does not throw, so that a wrong acceptance reads as one. */
export function codeOf(run: () => unknown): string {
  try {
    run()
  } catch (e) {
    return (e as { code?: string }).code ?? `crash: ${e}`
  }
  return 'accepted'
}
