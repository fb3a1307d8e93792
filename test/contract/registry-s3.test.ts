import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { createNodeRegistry } from '@graft/registry/node/create-node-registry.ts'
import { createS3Blobs } from '@graft/registry/node/s3-blobs.ts'
import { afterAll, describe, expect, it } from 'vitest'
import { ISSUER, SETUP_CODE, temporaryFolder } from '../registry/fixtures.ts'
import { publishInParts } from './publish-in-parts.ts'
import { blobStoreContract } from './registry-stores.ts'
import { hasS3Server, openS3Server } from './s3-server.ts'

const NAME = 'S3, spoken to versitygw'

if (!hasS3Server()) {
  const reason = 'skipped: no S3 server is installed; `npm run test:s3` installs one and runs this'
  console.warn(`${NAME}: ${reason}`)
  it.skip(`${NAME} (${reason})`, () => {})
} else {
  const opening = openS3Server()
  afterAll(async () => (await opening).close())

  blobStoreContract(NAME, async () => {
    const { bucket, config } = await opening
    const blobs = createS3Blobs(bucket, config)
    return { blobs, close: async () => blobs[Symbol.asyncDispose]() }
  })

  describe(`the registry on Node over ${NAME}`, () => {
    it('takes parts that never pass through it, and publishes what they make', async () => {
      const { bucket, config } = await opening
      await using blobs = createS3Blobs(bucket, config)
      const folder = temporaryFolder()
      const options = { stateDir: folder.path, issuerName: ISSUER, setupCode: SETUP_CODE }
      const registry = await createNodeRegistry({ ...options, blobs })
      const { hosts } = await publishInParts(registry.app)
      expect(hosts).toEqual([new URL(config.endpoint).host])
      await registry.close()
      folder.clean()
    })

    it('is what infra/server.ts serves when GRAFT_S3_BUCKET names one', async () => {
      const { bucket, config } = await opening
      const folder = temporaryFolder()
      const child = spawn(process.execPath, [join(import.meta.dirname, '../../infra/server.ts')], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: {
          PATH: process.env['PATH'],
          GRAFT_STATE: folder.path,
          GRAFT_EDGE_PORT: '0',
          GRAFT_REGISTRY_PORT: '0',
          GRAFT_SETUP_CODE: SETUP_CODE,
          GRAFT_S3_BUCKET: bucket,
          GRAFT_S3_ENDPOINT: config.endpoint,
          AWS_ACCESS_KEY_ID: config.credentials.accessKeyId,
          AWS_SECRET_ACCESS_KEY: config.credentials.secretAccessKey,
        },
      })
      const [line] = await once(createInterface(child.stdout), 'line')
      const { registry } = JSON.parse(String(line)) as { registry: string }
      const app = { request: (path: string, init?: RequestInit) => fetch(registry + path, init) }
      const { hosts } = await publishInParts(app as never)
      expect(hosts).toEqual([new URL(config.endpoint).host])
      const ended = once(child, 'exit')
      child.kill()
      await ended
      folder.clean()
    })
  })
}
