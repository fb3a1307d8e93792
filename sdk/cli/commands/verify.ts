import { join } from 'node:path'
import type { VerifiedLogProof } from '@graft/sdk/client/verify-log.ts'
import { type VerifiedVersion, verifyVersion } from '@graft/sdk/client/verify-version.ts'
import { type Digest, isDigest, sha256 } from '@graft/sdk/format/digest.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { readSafetensors } from '@graft/sdk/format/safetensors.ts'
import { verifyAdapter } from '@graft/sdk/format/verify-adapter.ts'
import type { VersionRecord } from '@graft/sdk/protocol/registry-api.ts'
import { type CliContext, registryOf } from '../context.ts'
import { isFolder, readIfThere, readRequired } from '../files.ts'
import { proveLogged, provenInFolder } from '../follow-log.ts'
import { facts } from '../text.ts'
import { goldensOf, PULLED } from './pull.ts'

interface Checked extends VerifiedVersion {
  source: 'folder' | 'registry'
  /** Whether operations were also held against the base's own tensors. */
  againstBase: boolean
  logits: Uint8Array | null
  /** Its place in the registry's log; null when no proof of it can be checked here. */
  logged: VerifiedLogProof | null
}

/** `graft verify <dir | digest | ref>`: proves everything about an adapter that can be proven. */
export async function verifyCommand(
  context: CliContext,
  target: string,
  flags: { signer?: string[] },
): Promise<void> {
  const checked = (await isFolder(target))
    ? await checkFolder(context, target, flags.signer)
    : await checkRemote(context, target, flags.signer)
  const { manifest, digest, signers, source, againstBase, logits, logged } = checked
  const goldens = goldensOf(checked)
  if (goldens && logits) {
    const got = await sha256(logits)
    if (got !== goldens.logits.sha256)
      throw new GraftError(
        'ERR_DIGEST_MISMATCH',
        expected('logits of the goldens', goldens.logits.sha256, got),
      )
    readSafetensors(logits)
  }
  const result = {
    verified: true,
    source,
    name: manifest.name,
    version: manifest.version,
    digest,
    signers,
    operations: manifest.operations.length,
    tensors: manifest.tensors.length,
    againstBase,
    log: logged && {
      origin: logged.checkpoint.origin,
      index: logged.index,
      size: logged.checkpoint.size,
      at: logged.at,
    },
    goldens: goldens && {
      producer: goldens.producer,
      prompts: goldens.prompts.length,
      logits: logits !== null,
    },
  }
  context.output.result(result, () =>
    facts([
      ['verified', `${manifest.name}@${manifest.version}`],
      ['digest', digest],
      [
        'log',
        logged
          ? `entry ${logged.index} of ${logged.checkpoint.origin}, ${logged.at}`
          : 'not checked: no proof in the folder, or its log was never met from here',
      ],
      ['signed by', signers.join(', ')],
      ['tensors', `${manifest.tensors.length}, every digest right, all finite`],
      [
        'operations',
        `${manifest.operations.length}, shapes ${againstBase ? "fit the base's" : 'agree (base not asked)'}`,
      ],
      [
        'goldens',
        goldens
          ? `${goldens.prompts.length} prompts by ${goldens.producer}${logits ? '' : ', logits not in the folder'}`
          : 'none',
      ],
    ]),
  )
}

/** Offline. The keys are those that the registry named when the folder was pulled: pin them with --signer. */
async function checkFolder(
  context: CliContext,
  folder: string,
  signers: string[] | undefined,
): Promise<Checked> {
  const saved = await readIfThere(join(folder, PULLED.version))
  if (saved === null)
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      `${folder} has no ${PULLED.version}, so it is no folder of graft pull; what a training tool saved has no signatures yet: graft inspect ${folder}`,
    )
  const text = new TextDecoder().decode(saved)
  let record: VersionRecord
  try {
    record = JSON.parse(text) as VersionRecord
  } catch (cause) {
    const where = join(folder, PULLED.version)
    throw new GraftError('ERR_JSON_INVALID', `${where} must be JSON; pull again`, { cause })
  }
  const digest = await sha256(await readRequired(join(folder, PULLED.manifest)))
  const version = await verifyVersion(record, digest, signers)
  await verifyAdapter(version.manifest, await readRequired(join(folder, PULLED.weights)))
  const logits = await readIfThere(join(folder, PULLED.goldens))
  const facts = { name: version.manifest.name, version: version.manifest.version, digest }
  const logged = await provenInFolder(context, facts, record)
  return { ...version, source: 'folder', againstBase: false, logits, logged }
}

async function checkRemote(
  context: CliContext,
  target: string,
  signers: string[] | undefined,
): Promise<Checked> {
  const registry = registryOf(context)
  const ref = isDigest(target) ? await refOf(context, target) : target
  const found = await registry.pull(ref, {
    signal: context.signal,
    ...(signers ? { signers } : {}),
  })
  const pulled = await proveLogged(context, registry, found)
  const logged = await provenInFolder(context, pulled.resolution, pulled.record)
  const goldens = goldensOf(pulled)
  const logits = goldens
    ? await registry.blob(goldens.logits.sha256, { size: goldens.logits.size })
    : null
  return { ...pulled, source: 'registry', againstBase: true, logits, logged }
}

/** A digest alone has no name; its signed manifest does. */
const refOf = async (context: CliContext, digest: Digest): Promise<string> =>
  `${(await registryOf(context).manifest(digest)).manifest.name}@${digest}`
