import { createNodeRegistry } from '@graft/registry/node/create-node-registry.ts'
import { describe, expect, it } from 'vitest'
import { ISSUER, SETUP_CODE, temporaryFolder } from '../registry/fixtures.ts'
import { publishInParts } from './publish-in-parts.ts'
import { openWorkerd } from './registry-workerd.ts'

describe('a large adapter in parts, with a line that breaks', { timeout: 180_000 }, () => {
  it('goes through the registry on Node into files', async () => {
    const folder = temporaryFolder()
    const options = { stateDir: folder.path, issuerName: ISSUER, setupCode: SETUP_CODE }
    const registry = await createNodeRegistry(options)
    expect((await publishInParts(registry.app)).hosts).toEqual(['registry.test'])
    await registry.close()
    folder.clean()
  })

  it('goes through the Worker into R2', async () => {
    const workerd = await openWorkerd(SETUP_CODE, ISSUER)
    expect((await publishInParts(workerd.app as never)).hosts).toEqual(['registry.test'])
    await workerd.close()
  })

  it('goes straight into R2 where the Worker knows its S3 API', async () => {
    const workerd = await openWorkerd(SETUP_CODE, ISSUER, {}, true)
    const host = new URL(workerd.s3.config.endpoint).host
    expect((await publishInParts(workerd.app as never)).hosts).toEqual([host])
    await workerd.close()
  })
})
