import { join } from 'node:path'
import type { Digest } from '@graft/sdk/format/digest.ts'
import type { Precision } from '../graph/linear-weights.ts'

/** Raised whenever names, layout or values of prepared weights change. */
const REVISION = 1

/** Where a base's weights are prepared: by its digest and precision, to be found by the next start. */
export function preparedFolder(
  preparedDir: string,
  { baseDigest, precision }: { baseDigest: Digest; precision: Precision },
): string {
  const hex = baseDigest.slice(baseDigest.indexOf(':') + 1)
  return join(preparedDir, `${hex}-${precision}-${REVISION}`)
}
