import type { ConfigReader } from '../config-keys.ts'
import { suffixMatch } from './python-pattern.ts'

/** A name that JSON.parse moves before the others, so that its place in the file is lost. */
const LOSES_ORDER = /^(?:0|[1-9]\d*)$/

/**
 * rank_pattern and alpha_pattern: the first key that matches wins, else the config's own value.
 * @throws ERR_CONFIG_INVALID where it cannot be told which key came first
 */
export function byPattern(
  config: ConfigReader,
  key: string,
  fallback: number,
): (path: string) => number {
  const patterns = config
    .numbers(key)
    .map(([name, value]) => ({ name, pattern: suffixMatch(name), value }))
  return (path) => {
    const matching = patterns.filter(({ pattern }) => pattern.test(path))
    const [first] = matching
    if (
      matching.some(({ value }) => value !== first?.value) &&
      matching.some(({ name }) => LOSES_ORDER.test(name))
    )
      config.fail(key, `of one value for ${path}, which ${matching.length} of its keys match`)
    return first?.value ?? fallback
  }
}
