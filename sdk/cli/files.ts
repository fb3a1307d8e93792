import {
  type FileHandle,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
} from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { type ByteSource, CHUNK_BYTES, chunksOf } from '@graft/sdk/format/byte-source.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'

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

/** A file read by ranges: opened at the first read, closed with `close`. */
function fileSource(path: string, size: number): ByteSource & { close(): Promise<void> } {
  let handle: Promise<FileHandle> | null = null
  return {
    size,
    async read(begin, end, room) {
      handle ??= open(path, 'r')
      try {
        const file = await handle
        const length = Math.max(0, Math.min(end, size) - begin)
        const bytes = room?.subarray(0, length) ?? new Uint8Array(length)
        let at = 0
        while (at < bytes.length) {
          const { bytesRead } = await file.read(bytes, at, bytes.length - at, begin + at)
          if (bytesRead === 0) break
          at += bytesRead
        }
        return bytes.subarray(0, at)
      } catch (cause) {
        throw unreadable(path, cause)
      }
    },
    close: async () => handle?.then((file) => file.close()).catch(() => {}),
  }
}

/** Folders with a config of an adapter, at most two levels below: a whole disk is not searched. */
async function adaptersBelow(folder: string, levels = 2): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
  const found: string[] = []
  for (const { name } of entries.filter((entry) => entry.isDirectory())) {
    const below = join(folder, name)
    if (await readIfThere(join(below, 'adapter_config.json')).catch(() => null)) found.push(below)
    else if (levels > 1) found.push(...(await adaptersBelow(below, levels - 1)))
  }
  return found.sort()
}

/** What stands beside adapters and is none: PEFT writes a README.md above those with a name of their own. */
const BESIDE = /^(?!adapter_config\.json$).*\.(?:md|txt|json|log)$/i

/** Tools save several adapters to folders side by side: the user meant one of them. @throws ERR_REQUEST_INVALID */
async function refuseNoAdapter(folder: string, names: readonly string[]): Promise<void> {
  if (!names.every((name) => BESIDE.test(name))) return
  const found = await adaptersBelow(folder)
  if (names.length > 0 && found.length === 0) return
  const way =
    found.length === 0
      ? 'give the folder or the file that a training tool saved'
      : `there is ${found.slice(0, 3).join(', ')}${found.length > 3 ? ', ...' : ''}: give one of them`
  throw new GraftError('ERR_REQUEST_INVALID', `${folder} holds no adapter; ${way}`)
}

/** Files of a folder or a file by itself, read by ranges while it is open. */
export interface OpenInput extends AsyncDisposable {
  files: Map<string, ByteSource>
}

/**
 * The regular files of a folder, not of those below it (checkpoints of a training stay where they are), or one file. Nothing is
 * read yet.
 * @throws ERR_REQUEST_INVALID
 */
export async function openInput(path: string): Promise<OpenInput> {
  const entry = await stat(path).catch((cause) => {
    if (isMissing(cause))
      throw new GraftError(
        'ERR_REQUEST_INVALID',
        `there is no ${path}; give a folder or a file that a training tool saved`,
      )
    throw unreadable(path, cause)
  })
  const names = entry.isDirectory()
    ? (await readdir(path, { withFileTypes: true }))
        .filter((item) => item.isFile() && !item.name.startsWith('.'))
        .map(({ name }) => name)
    : [basename(path)]
  const folder = entry.isDirectory() ? path : dirname(path)
  if (entry.isDirectory()) await refuseNoAdapter(path, names)
  const sources = await Promise.all(
    names.sort().map(async (name) => {
      const file = join(folder, name)
      return [name, fileSource(file, (await stat(file)).size)] as const
    }),
  )
  return {
    files: new Map(sources),
    async [Symbol.asyncDispose]() {
      for (const [, source] of sources) await source.close()
    },
  }
}

/** Whole or not at all, also after a crash: a new file beside it, synced, then renamed. */
export async function writeFileAtomically(
  path: string,
  bytes: string | Uint8Array | ByteSource,
  mode = 0o644,
): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: mode === 0o600 ? 0o700 : 0o755 })
  const temporary = `${path}.${process.pid}.tmp`
  const file = await open(temporary, 'w', mode)
  try {
    if (typeof bytes === 'string' || bytes instanceof Uint8Array) await file.writeFile(bytes)
    else
      for await (const chunk of chunksOf(bytes, new Uint8Array(CHUNK_BYTES)))
        await file.writeFile(chunk)
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
  files: ReadonlyMap<string, Uint8Array | ByteSource>,
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
        `${target} is there already and holds something else; give another folder with -o, or --force`,
        { cause },
      )
    })
  } finally {
    await rm(temporary, { recursive: true, force: true })
  }
}
