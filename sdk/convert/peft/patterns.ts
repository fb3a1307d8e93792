import type { ConfigReader } from '../config-keys.ts'
import { suffixMatch } from './python-pattern.ts'

/** rank_pattern and alpha_pattern: the first key that matches wins, else the config's own value. */
export function byPattern(
  config: ConfigReader,
  key: string,
  fallback: number,
): (path: string) => number {
  const patterns = config
    .numbers(key)
    .map(([pattern, value]) => ({ pattern: suffixMatch(pattern), value }))
  return (path) => patterns.find(({ pattern }) => pattern.test(path))?.value ?? fallback
}
