import { mkdir, mkdtemp, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'

/** What a training folder may hold beside the adapter (optimizer states) is far larger than what an import reads. */
const MAX_FILE_BYTES = 2_000_000_000

const isMissing = (e: unknown): boolean => (e as NodeJS.ErrnoException).code === 'ENOENT'

/** null when there is no such file. @throws ERR_REQUEST_INVALID when it is there and cannot be read */
export async function readIfThere(path: string): Promise<Uint8Array<ArrayBuffer> | null> {
  try {
    return new Uint8Array(await readFile(path))
  } catch (cause) {
    if (isMissing(cause)) return null
    throw unreadable(path, cause)
  }
}

/** @throws ERR_REQUEST_INVALID */
export async function readRequired(path: string): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = await readIfThere(path)
  if (bytes) return bytes
  throw new GraftError('ERR_REQUEST_INVALID', `there is no file ${path}; check the path`)
}

const unreadable = (path: string, cause: unknown): GraftError =>
  new GraftError(
    'ERR_REQUEST_INVALID',
    `${path} cannot be read (${(cause as NodeJS.ErrnoException).code ?? 'unknown'})`,
    { cause },
  )

export const isFolder = (path: string): Promise<boolean> =>
  stat(path).then(
    (entry) => entry.isDirectory(),
    () => false,
  )

/** The regular files of a folder, not of those below it: checkpoints of a training stay where they are. */
export async function readFolder(folder: string): Promise<Map<string, Uint8Array>> {
  if (!(await isFolder(folder)))
    throw new GraftError('ERR_REQUEST_INVALID', expected('<dir>', 'a folder', folder))
  const files = new Map<string, Uint8Array>()
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (!entry.isFile() || entry.name.startsWith('.')) continue
    const path = join(folder, entry.name)
    const { size } = await stat(path)
    if (size <= MAX_FILE_BYTES) files.set(entry.name, await readRequired(path))
  }
  return files
}

/** Whole or not at all, also after a crash: a new file beside it, synced, then renamed. */
export async function writeFileAtomically(
  path: string,
  bytes: string | Uint8Array,
  mode = 0o644,
): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: mode === 0o600 ? 0o700 : 0o755 })
  const temporary = `${path}.${process.pid}.tmp`
  const file = await open(temporary, 'w', mode)
  try {
    await file.writeFile(bytes)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
}

/**
 * A folder that appears complete or not at all.
 * @throws ERR_REQUEST_INVALID when something is there already, unless `replace`
 */
export async function writeFolderAtomically(
  folder: string,
  files: ReadonlyMap<string, Uint8Array>,
  replace = false,
): Promise<void> {
  const target = resolve(folder)
  await mkdir(dirname(target), { recursive: true })
  const temporary = await mkdtemp(join(dirname(target), '.graft-'))
  try {
    for (const [name, bytes] of files) await writeFileAtomically(join(temporary, name), bytes)
    if (replace) await rm(target, { recursive: true, force: true })
    await rename(temporary, target).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'ENOTEMPTY' && cause.code !== 'EEXIST' && cause.code !== 'ENOTDIR')
        throw unreadable(target, cause)
      throw new GraftError(
        'ERR_REQUEST_INVALID',
        `${target} is there already and holds something else; give another -o, or --force`,
        { cause },
      )
    })
  } finally {
    await rm(temporary, { recursive: true, force: true })
  }
}
