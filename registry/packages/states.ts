import type { VersionState } from '@graft/sdk/protocol/registry-api.ts'

export interface StateColumns {
  yanked: string | null
  yanked_at: string | null
  deprecated: string | null
  deprecated_at: string | null
  tombstoned: string | null
  tombstoned_at: string | null
}

/** Of a version `v`, for stateOf. */
export const STATE_COLUMNS =
  'v.yanked, v.yanked_at, v.deprecated, v.deprecated_at, v.tombstoned, v.tombstoned_at'

export function stateOf(row: StateColumns): VersionState {
  const { yanked, deprecated, tombstoned } = row
  return {
    ...(yanked === null ? {} : { yanked: { reason: yanked, at: row.yanked_at! } }),
    ...(deprecated === null ? {} : { deprecated: { message: deprecated, at: row.deprecated_at! } }),
    ...(tombstoned === null ? {} : { tombstoned: { reason: tombstoned, at: row.tombstoned_at! } }),
  }
}

/** As a member of an answer: absent while nothing was said of the version. */
export const stateMember = (state: VersionState): { state?: VersionState } =>
  Object.keys(state).length === 0 ? {} : { state }

/** Why its publisher or the registry took it out of what may be chosen; null when neither did. */
export function withdrawn({ tombstoned, yanked }: VersionState): string | null {
  if (tombstoned) return `was removed at ${tombstoned.at}: ${tombstoned.reason}`
  if (yanked) return `was yanked at ${yanked.at}: ${yanked.reason}`
  return null
}
