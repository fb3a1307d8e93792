import { join } from 'node:path'
import { LOCK_FILE } from '@graft/sdk/client/lock.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { parseAdapterReference } from '@graft/sdk/format/parse-reference.ts'
import type { CliContext } from '../context.ts'
import { readLock } from '../lock-file.ts'
import { chooseFor, type InstallFlags, installAndKeep } from './install.ts'

/** `graft update [names...]`: what graft.lock asks for, chosen anew within its ranges; then as `graft install`. */
export async function updateCommand(
  context: CliContext,
  names: string[],
  flags: InstallFlags,
): Promise<void> {
  const path = join(process.cwd(), LOCK_FILE)
  const lock = await readLock(path)
  if (lock === null)
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      `there is no ${LOCK_FILE} here; graft install @scope/name@range makes one`,
    )
  const strange = names.find((name) => !Object.hasOwn(lock.adapters, name))
  if (strange !== undefined)
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      `${LOCK_FILE} does not name ${strange}; graft install ${strange}@range adds it`,
    )
  const chosen = names.length > 0 ? names : Object.keys(lock.adapters).sort()
  const references = chosen.map((name) =>
    parseAdapterReference(`${name}@${lock.adapters[name]!.wanted}`),
  )
  const next = await chooseFor(context, lock, references, flags)
  for (const name of chosen) {
    const [before, after] = [lock.adapters[name]!.version, next.adapters[name]!.version]
    if (before !== after) context.output.log(`${name}: ${before} -> ${after}`)
  }
  return installAndKeep(context, path, { before: lock, next }, flags)
}
