import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Digest } from '@graft/sdk/format/digest.ts'
import type { Precision } from '../graph/linear-weights.ts'

/** Raised whenever names, layout or values of prepared weights change. */
const REVISION = 1

export interface PreparedFolder {
  path: string
  /** Removes what nobody will open again. */
  release(): Promise<void>
}

/**
 * Where a base's weights are prepared: by its digest and precision, to be found by the next start. A base with an
 * adapter in its weights lives as long as its engine.
 */
export async function preparedFolder(options: {
  preparedDir: string | null
  baseDigest: Digest
  precision: Precision
  merge: { digest: Digest } | null
}): Promise<PreparedFolder | null> {
  const { preparedDir, baseDigest, precision, merge } = options
  if (preparedDir === null) return null
  await mkdir(preparedDir, { recursive: true })
  if (!merge) {
    const hex = baseDigest.slice(baseDigest.indexOf(':') + 1)
    return { path: join(preparedDir, `${hex}-${precision}-${REVISION}`), release: async () => {} }
  }
  const path = await mkdtemp(join(preparedDir, 'merged-'))
  return { path, release: () => rm(path, { recursive: true, force: true }) }
}
