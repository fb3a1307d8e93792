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

/** A version record, and what verifying it will say. */
interface FoundRecord {
  bytes: Uint8Array
  facts: Promise<AdapterFacts>
  from: 'disk' | 'registry'
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
  if (known && knownManifest(bytes, digest))
    return { facts: Promise.resolve(known), bytes, from: 'disk' }
  try {
    const facts = await loader.run('verify', bytes, digest)
    return { facts: Promise.resolve(facts), bytes, from: 'disk' }
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
  if (held && (!task.wantGoldens || (await held.facts).goldens)) return held
  try {
    const bytes = await deps.source.record(digest, capability, signal)
    return { facts: deps.loader.run('verify', bytes, digest), bytes, from: 'registry' }
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
 * Brings an adapter into host memory, proven: record, then tensors. The manifest hashes to the digest that was asked
 * for, so its tensors are on their way while the signatures are still being verified; a refusal stops them. Their bytes
 * are taken from the tier's budget before they come, and given back when they do not.
 * @throws what is wrong with it, or why it cannot be had
 */
export async function fetchAdapter(
  deps: FetchDeps,
  task: FetchTask,
  signal: AbortSignal,
): Promise<Fetched> {
  const record = await fetchRecord(deps, task, signal)
  const refusal = new AbortController()
  const verified = record.facts.then((facts) => {
    task.check(facts)
    assertSize(facts.file.size, deps.maxAdapterBytes)
    return facts
  })
  verified.catch((e) => refusal.abort(e))
  const manifest = knownManifest(record.bytes, task.digest)
  const row = manifest?.files?.find((file) => file.role === 'canonical')
  // Not what its digest says, or without tensors: then verifying says so.
  const { digest, size } = row ? { digest: row.sha256, size: row.size } : (await verified).file
  assertSize(size, deps.maxAdapterBytes)
  const either = AbortSignal.any([signal, refusal.signal])
  const claim = await deps.host.claim(size + record.bytes.length, either)
  try {
    const held = await fileOnDisk(deps, { digest, size })
    const file = held ?? (await deps.source.blob(digest, size, task.capability, either))
    const facts = await verified
    if (!task.known) await deps.loader.run('prove', record.bytes, task.digest, file, digest)
    claim.put({ facts, record: record.bytes, file })
    const kept = keep(deps, facts, {
      record: record.from === 'registry' ? record.bytes : null,
      file: held ? null : file,
    })
    return { facts, from: held ? 'disk' : 'registry', kept }
  } catch (e) {
    claim.cancel()
    throw e
  }
}

/** Writes what the disk does not have. Nobody waits for it; until then host memory holds the adapter. */
async function keep(
  { disk, host }: FetchDeps,
  { digest, file }: AdapterFacts,
  fresh: { record: Uint8Array | null; file: Uint8Array | null },
): Promise<void> {
  const held = host.use(digest)
  if (fresh.record) await disk.putNote(RECORDS, digest, fresh.record).catch(warnOfDisk)
  if (fresh.file) await disk.putBlob(file.digest, fresh.file).catch(warnOfDisk)
  held?.release()
}
