import type { Digest } from '@graft/sdk/format/digest.ts'
import { expected, GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import type { AdapterFacts } from './adapter-facts.ts'
import type { DiskCache } from './disk-cache.ts'
import type { HostCache } from './host-cache.ts'
import type { Loader } from './loader/loader.ts'
import type { RegistrySource } from './registry-source.ts'
import { knownManifest } from './version-record.ts'

export interface FetchDeps {
  disk: DiskCache
  host: HostCache
  source: RegistrySource
  loader: Loader
  /** Largest adapter file that is pulled at all. */
  maxAdapterBytes: number
}

export interface FetchTask {
  digest: Digest
  capability: string | null
  /** What a load before this one proved: the same bytes need no second proof. */
  known: AdapterFacts | undefined
  /** A record without goldens is asked for again: they may be signed later. */
  wantGoldens: boolean
  /** What can be refused before the tensors are fetched. */
  check: (facts: AdapterFacts) => void
}

export interface Fetched {
  facts: AdapterFacts
  from: 'disk' | 'registry'
  /** The disk holds it, or has said why not. */
  kept: Promise<void>
}

interface FoundRecord {
  facts: AdapterFacts
  bytes: Uint8Array
}

const RECORDS = 'records'

/** The disk only saves a later pull: a full one must not fail a call whose bytes are here and verified. */
const warnOfDisk = (e: unknown): void =>
  process.emitWarning(`the disk tier cannot keep an adapter: ${e}`)

/** What stands on disk, when its signatures still hold; what is damaged is removed. */
async function recordOnDisk(
  { disk, loader }: FetchDeps,
  { digest, known }: FetchTask,
): Promise<FoundRecord | null> {
  const bytes = await disk.note(RECORDS, digest)
  if (!bytes) return null
  if (known && knownManifest(bytes, digest)) return { facts: known, bytes }
  try {
    return { facts: await loader.run('verify', bytes, digest), bytes }
  } catch {
    await disk.removeNote(RECORDS, digest)
    return null
  }
}

async function fetchRecord(
  deps: FetchDeps,
  task: FetchTask,
  signal: AbortSignal,
): Promise<FoundRecord> {
  const { digest, capability } = task
  const held = await recordOnDisk(deps, task)
  if (held && (held.facts.goldens || !task.wantGoldens)) return held
  try {
    const bytes = await deps.source.record(digest, capability, signal)
    const facts = await deps.loader.run('verify', bytes, digest)
    await deps.disk.putNote(RECORDS, digest, bytes).catch(warnOfDisk)
    return { facts, bytes }
  } catch (e) {
    if (held && isGraftError(e) && e.code === 'ERR_UNREACHABLE') return held
    throw e
  }
}

/** From disk when what stands there hashes to its digest, else null; a damaged file is removed. */
async function fileOnDisk(
  { disk, loader }: FetchDeps,
  { digest, size }: AdapterFacts['file'],
): Promise<Uint8Array | null> {
  const path = await disk.blobPath(digest)
  if (path === null) return null
  const read = await loader.run('read', path, size)
  if (read?.digest === digest) return read.file
  await disk.removeBlob(digest)
  return null
}

/** Bytes by digest that are not tensors (goldens): disk, then registry, and then kept on disk. */
export async function fetchBlob(
  deps: FetchDeps,
  blob: { digest: Digest; size: number },
  capability: string | null,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const held = await deps.disk.blob(blob.digest)
  if (held) return held
  assertSize(blob.size, deps.maxAdapterBytes)
  const bytes = await deps.source.blob(blob.digest, blob.size, capability, signal)
  await deps.disk.putBlob(blob.digest, bytes).catch(warnOfDisk)
  return bytes
}

function assertSize(size: number, limit: number): void {
  if (size > limit)
    throw new GraftError('ERR_BODY_TOO_LARGE', expected('adapter', `at most ${limit} bytes`, size))
}

/**
 * Brings an adapter into host memory, proven: record, then tensors. Its bytes are taken from the tier's budget before
 * they come, and given back when they do not.
 * @throws what is wrong with it, or why it cannot be had
 */
export async function fetchAdapter(
  deps: FetchDeps,
  task: FetchTask,
  signal: AbortSignal,
): Promise<Fetched> {
  const { digest, capability } = task
  const { facts, bytes: record } = await fetchRecord(deps, task, signal)
  task.check(facts)
  assertSize(facts.file.size, deps.maxAdapterBytes)
  const claim = await deps.host.claim(facts.file.size + record.length, signal)
  try {
    const held = await fileOnDisk(deps, facts.file)
    const { digest: blob, size } = facts.file
    const file = held ?? (await deps.source.blob(blob, size, capability, signal))
    if (!task.known) await deps.loader.run('prove', record, digest, file, blob)
    claim.put({ facts, record, file })
    return held
      ? { facts, from: 'disk', kept: Promise.resolve() }
      : { facts, from: 'registry', kept: keepFile(deps, facts, file) }
  } catch (e) {
    claim.cancel()
    throw e
  }
}

/** Nobody waits for the disk; until it has the file, host memory holds it. */
async function keepFile(
  { disk, host }: FetchDeps,
  { digest, file }: AdapterFacts,
  bytes: Uint8Array,
): Promise<void> {
  const held = host.use(digest)
  await disk.putBlob(file.digest, bytes).catch(warnOfDisk)
  held?.release()
}
