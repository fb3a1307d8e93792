import type { ByteSource } from '@graft/sdk/format/byte-source.ts'
import { MAX_CARD_BYTES } from '@graft/sdk/format/card.ts'

/** A folder's README, which the registry's page shows; null without one, and for an empty one. */
export async function readReadme(
  files: ReadonlyMap<string, ByteSource>,
): Promise<{ path: string; bytes: Uint8Array } | null> {
  const [path, source] = [...files].find(([name]) => name.toLowerCase() === 'readme.md') ?? []
  if (path === undefined || !source || source.size === 0) return null
  // One byte more than is allowed is enough to be refused by.
  return { path, bytes: await source.read(0, Math.min(source.size, MAX_CARD_BYTES + 1)) }
}
