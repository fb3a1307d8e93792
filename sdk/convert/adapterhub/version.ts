import type { Json } from '@graft/sdk/format/strict-json.ts'

export interface Version {
  /** `1.3.0`; null where the config has none. */
  text: string | null
  /**
   * Before 1.1.0 `adapters` trained LoRA and IA3 without their scale, and since then it loads such files with alpha := r.
   * Versions of adapter-transformers, its predecessor, have no "adapters." before them and are loaded as they are.
   */
  faultyScale: boolean
}

/** The config's `version`: "adapters.1.3.0". */
export function readVersion(value: Json): Version {
  if (typeof value !== 'string') return { text: null, faultyScale: false }
  const text = value.replace(/^adapters\./, '')
  const [, major = '', minor = '', patch = '', rest = ''] =
    /^(\d+)(?:\.(\d+))?(?:\.(\d+))?(.*)$/.exec(text) ?? []
  const number = Number(major) * 1e6 + Number(minor) * 1e3 + Number(patch)
  // 1.1.0.dev0 and 1.1.0rc1 come before 1.1.0 (PEP 440).
  const before = number < 1_001_000 || (number === 1_001_000 && /^\.?(?:dev|a|b|rc)\d*/.test(rest))
  return { text, faultyScale: value !== text && major !== '' && before }
}
