import type { Digest } from '@graft/sdk/format/digest.ts'
import type { VerifiedAdapter } from './adapter-bytes.ts'

/** Verified adapters in host memory: least recently used leave first, within a budget of bytes that is kept. */
export interface HostCache {
  get(digest: Digest): VerifiedAdapter | undefined
  put(adapter: VerifiedAdapter): void
  remove(digest: Digest): void
  entries(): { digest: Digest; bytes: number }[]
}

export function createHostCache(budgetBytes: number): HostCache {
  const held = new Map<Digest, VerifiedAdapter>()
  let used = 0
  const drop = (digest: Digest): void => {
    used -= held.get(digest)?.bytes ?? 0
    held.delete(digest)
  }
  return {
    get(digest) {
      const adapter = held.get(digest)
      if (!adapter) return undefined
      held.delete(digest)
      held.set(digest, adapter)
      return adapter
    },
    put(adapter) {
      drop(adapter.digest)
      if (adapter.bytes > budgetBytes) return
      held.set(adapter.digest, adapter)
      used += adapter.bytes
      for (const oldest of held.keys()) {
        if (used <= budgetBytes) break
        drop(oldest)
      }
    },
    remove: drop,
    entries: () => [...held.values()].map(({ digest, bytes }) => ({ digest, bytes })),
  }
}
