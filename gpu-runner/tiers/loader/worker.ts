/** A thread in which adapters are read, hashed, proven and converted, so that requests and steps never wait for it. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { isGraftError } from '@graft/sdk/format/errors.ts'
import { convertTensors, proveTensors } from '../adapter-tensors.ts'
import { sha256Of, verifyRecord } from '../version-record.ts'
import type { Job, JobName, Jobs, LoaderOptions, Reply } from './messages.ts'

const port = parentPort!
const { base } = workerData as LoaderOptions

function readShared(path: string, size: number): Uint8Array | null {
  const fd = openSync(path, 'r')
  try {
    if (fstatSync(fd).size !== size) return null
    const file = new Uint8Array(new SharedArrayBuffer(size))
    let at = 0
    while (at < size) {
      const got = readSync(fd, file, at, size - at, at)
      if (got === 0) return null
      at += got
    }
    return file
  } finally {
    closeSync(fd)
  }
}

const jobs: {
  [N in JobName]: (...input: Jobs[N]['input']) => Jobs[N]['output'] | Promise<Jobs[N]['output']>
} = {
  verify: verifyRecord,
  read(path, size) {
    try {
      const file = readShared(path, size)
      return file && { file, digest: sha256Of(file) }
    } catch (e) {
      // Evicted since it was looked up: as good as never there.
      if ((e as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw e
    }
  },
  async prove(record, digest, file, fileDigest) {
    await proveTensors(record, digest, file, fileDigest, base)
    return undefined
  },
  convert: convertTensors,
}

port.on('message', async ({ id, name, input }: Job) => {
  try {
    const work = jobs[name] as (...input: unknown[]) => unknown
    port.postMessage({ id, output: await work(...input) } satisfies Reply)
  } catch (e) {
    const code = isGraftError(e) ? e.code : null
    const message = e instanceof Error ? (code ? e.message : (e.stack ?? e.message)) : String(e)
    port.postMessage({ id, failure: { code, message } } satisfies Reply)
  }
})
