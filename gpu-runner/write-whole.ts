import { randomUUID } from 'node:crypto'
import { rename, rm, writeFile } from 'node:fs/promises'

/** A name beside a file for what is to become it; other processes and threads have names of their own. */
export const temporaryBeside = (path: string): string =>
  `${path}.${process.pid}-${randomUUID()}.tmp`

/** Writes a file so that a reader sees all of it or what stood there before. */
export async function writeWhole(path: string, content: string | Uint8Array): Promise<void> {
  const temporary = temporaryBeside(path)
  try {
    await writeFile(temporary, content, { flush: true })
    await rename(temporary, path)
  } catch (e) {
    await rm(temporary, { force: true })
    throw e
  }
}
