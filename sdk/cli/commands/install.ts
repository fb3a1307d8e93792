import { join } from 'node:path'
import {
  askedDrift,
  bindScope,
  driftOf,
  EMPTY_LOCK,
  isSameLock,
  LOCK_FILE,
  type Lock,
  lockAdapter,
  lockLogs,
  logAt,
  scopeOf,
  wantedOf,
} from '@graft/sdk/client/lock.ts'
import { createRegistryClient, type RegistryClient } from '@graft/sdk/client/registry-client.ts'
import { checkLog, type LogMemory } from '@graft/sdk/client/verify-log.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { formatAdapterReference, parseAdapterReference } from '@graft/sdk/format/parse-reference.ts'
import type { AdapterReference } from '@graft/sdk/format/reference.ts'
import type { VersionState } from '@graft/sdk/protocol/registry-api.ts'
import { satisfies } from 'semver'
import { type CliContext, registryOf } from '../context.ts'
import { type DemandFlags, demandsOf } from '../demand-flags.ts'
import { writeFolderAtomically } from '../files.ts'
import { folderOf, installedIn } from '../installed.ts'
import { readLock, writeLock } from '../lock-file.ts'
import { createBar } from '../progress.ts'
import { skippedLines, stateLines } from '../state-text.ts'
import { filesOf } from './pull.ts'

export interface InstallFlags extends DemandFlags {
  output: string
  frozen?: boolean
  signer?: string[]
}

interface Row {
  name: string
  version: string
  digest: string
  folder: string
  written: boolean
  state?: VersionState
}

/** The registry a scope is bound to. The token is the configured registry's, and goes nowhere else. */
function registryFor(context: CliContext, lock: Lock, name: string): RegistryClient {
  const { url } = lock.registries[scopeOf(name)]!
  const own = registryOf(context)
  return url === own.url ? own : createRegistryClient({ url })
}

const drifted = (lines: readonly string[]): GraftError =>
  new GraftError(
    'ERR_DIGEST_MISMATCH',
    `--frozen: ${lines.length} ${lines.length === 1 ? 'thing differs' : 'things differ'} from ${LOCK_FILE}; nothing was changed\n${lines.map((line) => `  ${line}`).join('\n')}`,
  )

/** What a lock says against itself: somebody edited it by hand. */
const selfDrift = (lock: Lock): string[] =>
  Object.entries(lock.adapters).flatMap(([name, { wanted, version, digest }]) => {
    const { selector } = parseAdapterReference(`${name}@${wanted}`)
    if (selector.kind === 'range' && !satisfies(version, selector.range))
      return [`${name}: ${version} is not in ${wanted}`]
    return selector.kind === 'digest' && selector.digest !== digest
      ? [`${name}: ${digest} is not ${wanted}`]
      : []
  })

/** Binds the scopes of what is newly asked for to the registry in use. @throws ERR_REQUEST_INVALID */
const bindAll = (context: CliContext, lock: Lock, references: readonly AdapterReference[]): Lock =>
  references.reduce(
    (next, { package: name }) => bindScope(next, scopeOf(name), registryOf(context).url),
    lock,
  )

/** Chooses a version for each reference, at its scope's registry, and puts it into the lock; nothing is downloaded. */
export async function chooseFor(
  context: CliContext,
  lock: Lock,
  references: readonly AdapterReference[],
  flags: DemandFlags,
): Promise<Lock> {
  const { output } = context
  let next = lock
  for (const reference of references) {
    const { package: name } = reference
    const before = Object.hasOwn(next.adapters, name) ? next.adapters[name] : undefined
    const demands = demandsOf(flags)
    // An adapter stays on its base unless the user says otherwise.
    if (before && !demands.base && !demands.structure) demands.base = before.base.digest
    const ref = formatAdapterReference(reference)
    const found = await registryFor(context, next, name).resolve({ ref, ...demands })
    for (const line of skippedLines(found)) output.log(`passed over ${name}@${line}`)
    next = lockAdapter(next, wantedOf(reference), found)
  }
  return next
}

/** Folders that hold what the lock names; those that do already are left alone, so that a run cut short goes on. */
export async function installAll(
  context: CliContext,
  lock: Lock,
  flags: Pick<InstallFlags, 'output' | 'signer' | 'frozen'>,
): Promise<{ rows: Row[]; logs: Map<string, LogMemory> }> {
  const { output, signal } = context
  const rows: Row[] = []
  const logs = new Map<string, LogMemory>()
  const stale: string[] = []
  const names = Object.keys(lock.adapters).sort()
  for (const name of names) {
    const locked = lock.adapters[name]!
    const folder = folderOf(flags.output, name)
    const { version, digest } = locked
    const there = await installedIn(folder, locked)
    rows.push({ name, version, digest, folder, written: there !== 'same' })
    if (there !== 'altered') continue
    if (flags.frozen) stale.push(`${folder}: its bytes are not those of ${name}@${version}`)
    else output.log(`${folder} was changed since it was installed; it is written anew`)
  }
  if (stale.length > 0) throw drifted(stale)
  for (const row of rows) {
    if (!row.written) continue
    const locked = lock.adapters[row.name]!
    const registry = registryFor(context, lock, row.name)
    const pulled = await registry.pull(`${row.name}@${row.digest}`, {
      signal,
      onProgress: createBar(output, row.name),
      ...(flags.signer ? { signers: flags.signer } : {}),
    })
    const drift = driftOf(row.name, locked, pulled.resolution)
    if (drift.length > 0) throw drifted(drift)
    const { url } = registry
    const { memory, proof } = await checkLog(
      registry.log,
      { name: row.name, version: row.version, digest: locked.digest },
      logs.get(url) ?? logAt(lock, url),
    )
    logs.set(url, memory)
    const kept = { ...pulled, record: { ...pulled.record, log: proof } }
    await writeFolderAtomically(row.folder, await filesOf(registry, kept), true)
    output.log(`installed ${row.name}@${row.version}`)
    const { state } = pulled.resolution
    if (state) row.state = state
    for (const line of stateLines(state)) output.log(`${row.name}@${row.version} is ${line}`)
  }
  return { rows, logs }
}

const human = (rows: readonly Row[]): string =>
  rows
    .map(({ name, version, folder, written }) =>
      [written ? 'installed' : 'unchanged', `${name}@${version}`, folder].join(' '),
    )
    .join('\n')
    .concat('\n')

/**
 * Installs, then keeps the lock: nothing gets into it that was not proven. What was seen of a log goes into a lock that
 * changes anyway, or has none yet, so that installing alone never makes a commit.
 */
export async function installAndKeep(
  context: CliContext,
  path: string,
  { before, next: lock }: { before: Lock; next: Lock },
  flags: InstallFlags,
): Promise<void> {
  const { rows: adapters, logs } = await installAll(context, lock, flags)
  const news = [...logs].filter(([url]) => !isSameLock(before, lock) || logAt(before, url) === null)
  const locked = !flags.frozen && (await writeLock(path, lockLogs(lock, new Map(news))))
  context.output.result({ lock: path, locked, adapters }, () =>
    adapters.length === 0 ? `${LOCK_FILE} names no adapter\n` : human(adapters),
  )
}

/** `graft install [refs...]`: the folder that graft.lock describes, which refs add to. */
export async function installCommand(
  context: CliContext,
  refs: string[],
  flags: InstallFlags,
): Promise<void> {
  const path = join(process.cwd(), LOCK_FILE)
  const lock = await readLock(path)
  const asked = refs.map(parseAdapterReference)
  if (flags.frozen) {
    if (lock === null) throw drifted([`there is no ${LOCK_FILE} here`])
    const drift = [...askedDrift(lock, asked), ...selfDrift(lock)]
    if (drift.length > 0) throw drifted(drift)
    return installAndKeep(context, path, { before: lock, next: lock }, flags)
  }
  const before = lock ?? EMPTY_LOCK
  const off = new Set(selfDrift(before).map((line) => line.slice(0, line.indexOf(':'))))
  const again = [...off].map((name) =>
    parseAdapterReference(`${name}@${before.adapters[name]!.wanted}`),
  )
  const fresh = asked.filter((reference) => askedDrift(before, [reference]).length > 0)
  const wanted = new Map([...again, ...fresh].map((reference) => [reference.package, reference]))
  const bound = bindAll(context, before, asked)
  const next = await chooseFor(context, bound, [...wanted.values()], flags)
  return installAndKeep(context, path, { before, next }, flags)
}
