import { EMPTY_LOCK, formatLock, type Lock, parseLock } from '@graft/sdk/client/lock.ts'
import { readIfThere, writeFileAtomically } from './files.ts'

/** null when there is none. @throws ERR_JSON_INVALID, ERR_REQUEST_INVALID */
export async function readLock(path: string): Promise<Lock | null> {
  const bytes = await readIfThere(path)
  return bytes && parseLock(bytes)
}

/** Whether it was written: the same lock leaves the file as it is. */
export async function writeLock(path: string, lock: Lock): Promise<boolean> {
  const text = formatLock(lock)
  const there = await readIfThere(path)
  if (there ? new TextDecoder().decode(there) === text : lock === EMPTY_LOCK) return false
  await writeFileAtomically(path, text)
  return true
}
