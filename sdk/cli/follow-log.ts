import { join } from 'node:path'
import type { PulledAdapter, RegistryClient } from '@graft/sdk/client/registry-client.ts'
import {
  checkLog,
  type LogMemory,
  type VerifiedLogProof,
  verifyLogProof,
} from '@graft/sdk/client/verify-log.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { parseCheckpoint } from '@graft/sdk/format/tlog/checkpoint.ts'
import { parseNote, signatureOf } from '@graft/sdk/format/tlog/signed-note.ts'
import { parseVerifierKey } from '@graft/sdk/format/tlog/verifier-key.ts'
import type { VersionRecord } from '@graft/sdk/protocol/registry-api.ts'
import type { CliContext } from './context.ts'
import { readIfThere, writeFileAtomically } from './files.ts'

/** What this machine was shown of each registry's log, by its URL. */
type Memories = Record<string, LogMemory>

const memoriesPath = ({ config }: CliContext): string => join(config.home, 'logs.json')

async function readMemories(context: CliContext): Promise<Memories> {
  const path = memoriesPath(context)
  const bytes = await readIfThere(path)
  if (bytes === null) return {}
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as Memories
  } catch (cause) {
    throw new GraftError(
      'ERR_STATE_DAMAGED',
      `${path} must be JSON; restore it, or remove it and so forget which logs were seen`,
      { cause },
    )
  }
}

const sizeOf = ({ checkpoint }: LogMemory): number =>
  checkpoint === null ? 0 : parseCheckpoint(parseNote(checkpoint).text).size

/** Two commands at once may have been shown two checkpoints: the newer stays. */
async function keep(context: CliContext, url: string, memory: LogMemory): Promise<void> {
  const memories = await readMemories(context)
  const known = memories[url]
  if (known && sizeOf(known) > sizeOf(memory)) return
  const text = `${JSON.stringify({ ...memories, [url]: memory }, null, 2)}\n`
  await writeFileAtomically(memoriesPath(context), text, 0o600)
}

/**
 * A pulled version that is in its registry's log, which goes on from what it showed this machine before; the proof is put
 * into the version's record.
 * @throws what checkLog throws
 */
export async function proveLogged(
  context: CliContext,
  registry: RegistryClient,
  pulled: PulledAdapter,
): Promise<PulledAdapter> {
  const { url, log } = registry
  const memory = (await readMemories(context))[url] ?? null
  const checked = await checkLog(log, pulled.resolution, memory)
  if (memory === null)
    context.output.log(`first meeting with the log of ${url}; its key is now ${checked.memory.key}`)
  await keep(context, url, checked.memory)
  return { ...pulled, record: { ...pulled.record, log: checked.proof } }
}

/**
 * Offline: the proof in a record, by a key that this machine has met.
 * @returns null when there is no proof, or the log was never met
 * @throws what verifyLogProof throws
 */
export async function provenInFolder(
  context: CliContext,
  what: { name: string; version: string; digest: VersionRecord['digest'] },
  { log }: VersionRecord,
): Promise<VerifiedLogProof | null> {
  if (log === undefined) return null
  const note = parseNote(log.checkpoint)
  // Two registries may carry one name: the key decides, not the origin.
  for (const { key } of Object.values(await readMemories(context)))
    if (signatureOf(note, await parseVerifierKey(key)) !== null)
      return verifyLogProof(what, log, key, { maxAgeSeconds: null })
  return null
}
