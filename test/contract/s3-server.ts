import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3'
import { freePort } from './free-port.ts'

/** Where `npm run test:s3` installs it; nothing of it is in the repository. */
export const S3_SERVER_FOLDER = join(import.meta.dirname, '../../.graft/s3-server')
const PROGRAM = join(S3_SERVER_FOLDER, process.platform === 'win32' ? 'versitygw.exe' : 'versitygw')

export const hasS3Server = (): boolean => existsSync(PROGRAM)

const BUCKET = 'registry-blobs'
const CREDENTIALS = { accessKeyId: 'test', secretAccessKey: 'test-secret' }

/** versitygw over a folder of its own, which checks every signature; with one empty bucket. */
export async function openS3Server() {
  const folder = await mkdtemp(join(tmpdir(), 'graft-s3-'))
  const port = await freePort()
  const address = `127.0.0.1:${port}`
  const keys = ['--access', CREDENTIALS.accessKeyId, '--secret', CREDENTIALS.secretAccessKey]
  // Metadata beside the objects: not every file system of a test machine has extended attributes.
  const sidecar = await mkdtemp(join(tmpdir(), 'graft-s3-meta-'))
  const child = spawn(
    PROGRAM,
    [...keys, '--port', address, '--quiet', 'posix', '--sidecar', sidecar, folder],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  )
  const config = {
    endpoint: `http://${address}`,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: CREDENTIALS,
  }
  await createBucket(config, child)
  return {
    bucket: BUCKET,
    config,
    async close() {
      const ended = once(child, 'exit')
      child.kill()
      await ended
      for (const path of [folder, sidecar]) await rm(path, { recursive: true, force: true })
    },
  }
}

/** Also waits until the server answers. */
async function createBucket(
  config: ConstructorParameters<typeof S3Client>[0],
  child: ChildProcess,
): Promise<void> {
  const client = new S3Client({ ...config, requestChecksumCalculation: 'WHEN_REQUIRED' })
  for (let tried = 1; ; tried++) {
    try {
      await client.send(new CreateBucketCommand({ Bucket: BUCKET }))
      break
    } catch (e) {
      if (tried === 50 || child.exitCode !== null) throw e
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
  client.destroy()
}
