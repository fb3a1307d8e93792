import type { Resolution, VersionState } from '@graft/sdk/protocol/registry-api.ts'

/** "yanked (answers in verse)": what was said of a version, a line each. */
export const stateLines = ({ yanked, deprecated, tombstoned }: VersionState = {}): string[] => [
  ...(tombstoned ? [`removed (${tombstoned.reason})`] : []),
  ...(yanked ? [`yanked (${yanked.reason})`] : []),
  ...(deprecated ? [`deprecated (${deprecated.message})`] : []),
]

/** Newer versions that were not chosen, a line each. */
export const skippedLines = ({ skipped, skippedMore = 0 }: Resolution): string[] => [
  ...skipped.map(({ version, reason }) => `${version}: ${reason}`),
  ...(skippedMore > 0 ? [`and ${skippedMore} more`] : []),
]
