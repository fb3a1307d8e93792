import type { BaseTensor } from '@graft/sdk/format/base-identity.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { isGraftError } from '@graft/sdk/format/errors.ts'
import {
  type VerifiedAdapter,
  type VerifiedRecord,
  verifyRecord,
  verifyTensors,
} from './adapter-bytes.ts'
import type { DiskCache } from './disk-cache.ts'
import type { RegistrySource } from './registry-source.ts'

export interface FetchDeps {
  disk: DiskCache
  source: RegistrySource
  base: readonly BaseTensor[]
  /** Largest adapter file that is pulled at all. */
  maxAdapterBytes: number
}

export interface FetchedAdapter extends VerifiedAdapter {
  from: 'disk' | 'registry'
}

const RECORDS = 'records'

/** The disk only saves a later pull: a full one must not fail a call whose bytes are here and verified. */
const warnOfDisk = (e: unknown): void =>
  process.emitWarning(`the disk tier cannot keep an adapter: ${e}`)

/** What stands on disk, when its signatures still hold; what is damaged is removed. */
async function recordOnDisk(disk: DiskCache, digest: Digest): Promise<VerifiedRecord | null> {
  const held = await disk.note(RECORDS, digest)
  if (!held) return null
  try {
    return await verifyRecord(held, digest)
  } catch {
    await disk.removeNote(RECORDS, digest)
    return null
  }
}

/** From disk, else from the registry. A record without goldens is asked for again: they may be signed later. */
async function fetchRecord(
  { disk, source }: FetchDeps,
  digest: Digest,
  capability: string | null,
  signal: AbortSignal,
): Promise<VerifiedRecord> {
  const held = await recordOnDisk(disk, digest)
  if (held?.goldens) return held
  try {
    const bytes = await source.record(digest, capability, signal)
    const record = await verifyRecord(bytes, digest)
    await disk.putNote(RECORDS, digest, bytes).catch(warnOfDisk)
    return record
  } catch (e) {
    if (held && isGraftError(e) && e.code === 'ERR_UNREACHABLE') return held
    throw e
  }
}

/** Bytes by digest: disk, then registry, and then kept on disk. */
export async function fetchBlob(
  deps: FetchDeps,
  blob: { digest: Digest; size: number },
  capability: string | null,
  signal: AbortSignal,
): Promise<{ bytes: Uint8Array; from: 'disk' | 'registry' }> {
  const held = await deps.disk.blob(blob.digest)
  if (held) return { bytes: held, from: 'disk' }
  const limit = Math.min(blob.size, deps.maxAdapterBytes)
  const bytes = await deps.source.blob(blob.digest, limit, capability, signal)
  await deps.disk.putBlob(blob.digest, bytes).catch(warnOfDisk)
  return { bytes, from: 'registry' }
}

/** Record, then tensors, each verified. @throws what is wrong with them, or why they cannot be had */
export async function fetchAdapter(
  deps: FetchDeps,
  digest: Digest,
  capability: string | null,
  signal: AbortSignal,
): Promise<FetchedAdapter> {
  const record = await fetchRecord(deps, digest, capability, signal)
  const { bytes, from } = await fetchBlob(deps, record.file, capability, signal)
  return { ...(await verifyTensors(record, bytes, deps.base)), from }
}
